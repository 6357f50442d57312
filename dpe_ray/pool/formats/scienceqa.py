"""ScienceQA's problems.json (arXiv 2209.09513): problems by id, their images in folders beside it.

A problem is `{question, choices, answer (index), hint, image (file name or null), topic, skill, lecture, solution,
split, ...}`; its image lies in `images/SPLIT/ID/`, as the set is downloaded, or in `SPLIT/ID/` or `ID/`.
"""

from typing import Any

from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import LETTERS
from dpe_ray.pool.formats.rows import Reading
from dpe_ray.pool.readers import Beside


def problem_fields(problem: Any, beside: Beside, reading: Reading) -> dict[str, Any] | None:
    """Read one problem, its key as `id`; None for one of another split or without an image, which are counted.

    Lecture and solution together are the rationale, as in the paper's chains of thought; the topic is the category.
    Raises PoolError.
    """
    if not isinstance(problem, dict) or not {"question", "choices", "answer"} <= problem.keys():
        raise PoolError("is no ScienceQA problem; needed are question, choices and answer")
    if not reading.in_split(problem.get("split")):
        return None
    if not problem.get("image"):
        reading.leave_out("without an image")
        return None
    key, split, name = problem["id"], problem.get("split") or "", problem["image"]
    places = (f"images/{split}/{key}", f"{split}/{key}", f"images/{key}", key)
    return {
        "images": [beside.cell(*(f"{place}/{name}" for place in places))],
        "question": _joined(problem.get("hint"), problem["question"]),
        "options": problem["choices"],
        "answer": _letter(problem["answer"], problem["choices"]),
        "rationale": _joined(problem.get("lecture"), problem.get("solution")),
        "category": str(problem.get("topic") or problem.get("subject") or "").replace("/", "-"),
        "skills": [problem["skill"]] if problem.get("skill") else [],
    }


def _letter(index: Any, choices: Any) -> str:
    if not isinstance(choices, list) or not isinstance(index, int) or not 0 <= index < min(len(choices), len(LETTERS)):
        raise PoolError(f"answer {index!r} is no index of its choices")
    return LETTERS[index]


def _joined(*texts: Any) -> str:
    return "\n".join(str(text).strip() for text in texts if text and str(text).strip())
