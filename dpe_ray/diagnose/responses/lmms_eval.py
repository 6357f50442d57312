"""lmms-eval's samples (`--log_samples`: TIME_samples_TASK.jsonl; arXiv 2407.12772).

A row has `doc_id`, `target`, `filtered_resps`, `resps` where the filters changed something, the metrics by name, and
`input`, the prompt that was sent; older versions keep the item itself in `doc`. Options are read from the item, else
from the prompt. Category: the item's, else what a metric states, else the task. The first metric that is a fraction, or
holds one as `score`, is the recorded score.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dpe_ray.diagnose.responses.documents import Row
from dpe_ray.diagnose.responses.response import Response, fraction, make_response, options_of, several
from dpe_ray.errors import PoolError
from dpe_ray.grading.lettered import split_options
from dpe_ray.grading.rows import LETTERS

OWN = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "doc_hash", "input", "token_counts")
"""Keys that are no metric."""
CATEGORIES = ("category", "subject", "subdomain", "subfield", "l2_category", "L2-category", "task")


def is_sample(row: Row) -> bool:
    """Whether it is one of lmms-eval's samples."""
    return "doc_id" in row.fields and ("filtered_resps" in row.fields or "resps" in row.fields)


def read_sample(row: Row, task: str) -> Iterator[Response]:
    """Read one row: an answer, or as many as were sampled. Raises PoolError without its place."""
    sample = row.fields
    metrics = {name: value for name, value in sample.items() if name not in OWN}
    target = str(sample.get("target", "")).strip()
    if target in ("", "None", "nan"):
        raise PoolError("has no target; splits without answers cannot be graded")
    question, options = _asked(sample)
    item = {
        "id": str(sample["doc_id"]),
        "question": question,
        "options": list(options),
        "answer": several(target),
        "category": _category(sample.get("doc"), *metrics.values()) or task,
    }
    score = next((s for value in metrics.values() if (s := _score(value)) is not None), None)
    for said in _responses(sample):
        yield make_response(item, said, score=score)


def _responses(sample: Mapping[str, Any]) -> list[str]:
    """What the model said, before filters took the answer out of it. Raises PoolError where it said no text."""
    said = sample.get("resps", sample.get("filtered_resps"))
    while isinstance(said, list) and len(said) == 1:
        said = said[0]
    texts = said if isinstance(said, list) else [said]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise PoolError("its response is no text: a task by log-likelihood, or one of several turns, cannot be read")
    return texts


def _asked(sample: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """Question and options: of the item, where the row still has it, else of the prompt."""
    doc = sample.get("doc")
    if isinstance(doc, Mapping) and doc.get("question"):
        lettered = [str(doc[letter]) for letter in LETTERS if str(doc.get(letter, "nan")) not in ("nan", "None", "")]
        stated = doc.get("options") or doc.get("choices") or lettered
        return str(doc["question"]), options_of(stated)
    prompt = sample.get("input") or sample.get("arguments") or ""
    while isinstance(prompt, list) and prompt:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise PoolError("its prompt is no text; input must be one, or arguments a list that begins with one")
    return split_options(prompt.replace("<image>", "").strip())


def _category(*stated: Any) -> str:
    places = [place for place in stated if isinstance(place, Mapping)]
    return next((str(place[key]) for key in CATEGORIES for place in places if place.get(key)), "")


def _score(metric: Any) -> float | None:
    return fraction(metric.get("score")) if isinstance(metric, Mapping) else fraction(metric)
