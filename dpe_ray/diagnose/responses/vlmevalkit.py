"""VLMEvalKit's predictions and results (arXiv 2407.11691), as .xlsx, .tsv, .csv or JSON.

Columns: `index`, `question`, `hint`, `A` to `Z`, `answer`, `prediction`, `category`, and `hit` (or `score`) of results.
Results have all names in lower case but those of options. Where there is an `l2-category` it is the category and the
finer one the skill, as in VLMEvalKit's labelled sets.
"""

from collections.abc import Iterator
from typing import Any

from dpe_ray.diagnose.responses.documents import Row
from dpe_ray.diagnose.responses.response import Response, fraction, make_response, several
from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import LETTERS, lettered_options

SCORES = ("hit", "score", "match")
"""First one that is a fraction counts; marks out of ten are no fraction."""


def is_prediction(row: Row) -> bool:
    """Whether it states a prediction."""
    return "prediction" in {name.lower() for name in row.fields}


def read_prediction(row: Row, task: str) -> Iterator[Response]:
    """Read one row. Raises PoolError without its place."""
    cells = {name if name in LETTERS else name.lower(): _text(value) for name, value in row.fields.items()}
    if not cells.get("answer"):
        raise PoolError("has no answer; splits without answers (such as MMBench_TEST) cannot be graded")
    coarse, fine = cells.get("l2-category", ""), cells.get("category") or cells.get("subject", "")
    options = lettered_options(cells)
    item = {
        "id": cells.get("index", ""),
        "question": "\n".join(filter(None, (cells.get("hint"), cells.get("question")))),
        "options": options,
        "answer": cells["answer"] if options else several(cells["answer"]),
        "category": coarse or fine or task,
        "skills": [fine] if coarse and fine else [],
    }
    score = next((s for name in SCORES if (s := fraction(cells.get(name))) is not None), None)
    yield make_response(item, cells["prediction"], score=score)


def _text(value: Any) -> str:
    """Text of a cell; pandas writes a missing one as nothing, null or NaN."""
    return "" if value is None or value != value else str(value).strip()
