"""One recorded answer, whatever log it stands in, and its grade."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpe_ray.errors import PoolError
from dpe_ray.grading.rows import answer_of, list_of, text_of
from dpe_ray.grading.rules import UNDECIDED, grade
from dpe_ray.types import Answer, AnswerKind, Graded, Provenance, Sample, Verdict, VerdictKind

CATEGORY_KEYS = ("category", "subject")
"""First found counts."""
NO_CATEGORY = "mixed"
OUTAGES = ("Failed to obtain answer", "[LMMS_EVAL_REQUEST_FAILED")
"""How the text begins that VLMEvalKit (INFER_FAIL_MSG and its API models) and lmms-eval (its API models) record in
place of a response when the endpoint did not answer."""
LONGEST_REASON = 200
"""Characters kept of an outage's message."""
RECORDED = "recorded@1"
"""Grader of an answer that no rule looks at."""


@dataclass(frozen=True)
class Response:
    """One recorded answer."""

    id: str
    """As the log names the item; empty when it does not."""
    sample: Sample
    """Without images."""
    text: str | None
    """None when the model was out of reach."""
    outage: str = ""
    """What the log says about it, where there is no text."""
    score: float | None = None
    """What the log's own scorer gave, 0-1; None where it gave none."""
    beyond_rules: str = ""
    """Why no rule can grade the item; empty where one can."""

    def graded(self) -> Graded:
        """Grade by rule; an outage is `not_judged`, what no rule can grade is undecidable."""
        if self.text is None:
            why = self.outage or "no response was recorded"
            return Graded(self.sample, "", Verdict(VerdictKind.NOT_JUDGED, RECORDED, why))
        if self.beyond_rules:
            reason = f"{UNDECIDED}: {self.beyond_rules}"
            return Graded(self.sample, self.text, Verdict(VerdictKind.WRONG, RECORDED, reason))
        return Graded(self.sample, self.text, grade(self.sample, self.text))


def make_response(
    item: Mapping[str, Any], said: str | None, *, score: float | None = None, outage: str = ""
) -> Response:
    """Check an item's `question`, `answer` and, if there are any, `id`, `options`, `category`, `skills` and so on.

    `answer` may be a list: of a choice question all of whose letters are wanted, which no rule grades, else of answers
    that are right each. Raises PoolError without a place.
    """
    options = options_of(item.get("options"))
    answer, beyond = _answer(item, options)
    category = next((str(item[key]) for key in CATEGORY_KEYS if item.get(key)), NO_CATEGORY)
    sample = Sample(
        images=(),
        question=text_of(item, "question"),
        answer=answer,
        options=options if answer.kind is AnswerKind.CHOICE else (),
        category=category.strip().replace("/", "-"),
        skills=tuple(str(skill) for skill in list_of(item, "skills")),
        provenance=Provenance("recorded"),
    )
    lost = " ".join((outage or _recorded_outage(said)).split())[:LONGEST_REASON]
    return Response(str(item.get("id", "")), sample, None if lost else said, lost, score, beyond)


def _recorded_outage(said: str | None) -> str:
    return said if said is not None and said.lstrip().startswith(OUTAGES) else ""


def options_of(value: Any) -> tuple[str, ...]:
    """A list, or one written as text; of a list that holds only another list, that one. Raises PoolError."""
    if isinstance(value, str):
        value = literal(value, "options")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list | tuple | None):
        raise PoolError("options are no list")
    return tuple(str(option) for option in value or ())


def literal(text: str, name: str) -> Any:
    """A Python or JSON literal written as text; nothing is ever run. Raises PoolError."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise PoolError(f"{name} are no list ({error})") from error


def several(stated: str) -> str | list[str]:
    """Answers that are right each, which both lmms-eval and VLMEvalKit write as a Python list; else the text."""
    if not (stated.startswith("[") and stated.endswith("]")):
        return stated
    try:
        values = literal(stated, "answers")
    except PoolError:  # a text in brackets
        return stated
    return [str(value) for value in values] if isinstance(values, list) and values else stated


def fraction(value: Any) -> float | None:
    """A score as 0-1: a number or a truth value; None for anything else and for numbers on another scale."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return {"true": 1.0, "false": 0.0}.get(value.strip().lower())
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    return None


def _answer(item: Mapping[str, Any], options: Sequence[str]) -> tuple[Answer, str]:
    """The reference, and why no rule can compare with it."""
    stated = item.get("answer")
    if not isinstance(stated, list | tuple):
        return answer_of(item, options), ""
    values = list(dict.fromkeys(str(value) for value in stated if str(value).strip()))
    if options and len(values) > 1:
        return Answer(AnswerKind.TEXT, ", ".join(values)), f"all of {', '.join(values)} are wanted"
    first = {**item, "answer": values[0] if values else None}
    return answer_of(first if options else {**first, "aliases": values[1:]}, options), ""
