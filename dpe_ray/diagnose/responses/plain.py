"""Rows of our own form, and of MMMU-Pro's outputs (github.com/MMMU-Benchmark/MMMU, mmmu-pro/output).

`question`, `answer`, `response` (beside `options` also called `prediction`), and if there are any `id`, `options` (a
list, or a Python list as text), `category` (else `subject`), `skills`, `kind`, `aliases`, `tolerance`, as in labelled
sets. MMMU-Pro says in `if_right` how its own parser judged.
"""

from collections.abc import Iterator

from dpe_ray.diagnose.responses.documents import Row
from dpe_ray.diagnose.responses.response import Response, fraction, make_response, several

LISTS = ("skills", "aliases")
"""Keys that a table can only state as text."""


def is_plain(row: Row) -> bool:
    """Whether it states a response; VLMEvalKit, whose word is prediction, has options in columns of their own."""
    return "response" in row.fields or {"prediction", "options"} <= row.fields.keys()


def read_plain(row: Row, task: str) -> Iterator[Response]:
    """Read one row. Raises PoolError without its place."""
    said = row.fields.get("response", row.fields.get("prediction"))
    lists = {key: several(value) for key in LISTS if isinstance(value := row.fields.get(key), str)}
    score = fraction(row.fields.get("if_right"))
    yield make_response({**row.fields, **lists}, None if said is None else str(said), score=score)
