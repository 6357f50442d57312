"""Rows of our own form, and of MMMU-Pro's outputs (github.com/MMMU-Benchmark/MMMU, mmmu-pro/output).

`question`, `answer`, `response`, and if there are any `id`, `options` (a list, or a Python list as text), `category`
(else `subject`), `skills`, `kind`, `aliases`, `tolerance`, as in labelled sets. MMMU-Pro says in `if_right` how its own
parser judged.
"""

from collections.abc import Iterator

from dpe_ray.diagnose.responses.documents import Row
from dpe_ray.diagnose.responses.response import Response, fraction, make_response


def is_plain(row: Row) -> bool:
    """Whether it states a response."""
    return "response" in row.fields


def read_plain(row: Row, task: str) -> Iterator[Response]:
    """Read one row. Raises PoolError without its place."""
    said = row.fields.get("response")
    yield make_response(row.fields, None if said is None else str(said), score=fraction(row.fields.get("if_right")))
