"""Diagnosis from answers that were recorded earlier: graded by rule, with no model and no picture.

A file is JSONL, one answer per line: `id`, `question`, `options` (a list, or a Python list as text), `answer`,
`response` and, if there are any, `category` (else `subject`), `skills`, `kind`, `aliases`, `tolerance`, as in labelled
sets.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpe_ray.errors import PoolError
from dpe_ray.grading.intervals import wilson
from dpe_ray.grading.rows import answer_of, json_object, list_of, text_of
from dpe_ray.grading.rules import grade, needs_judge
from dpe_ray.taxonomy import UNSPECIFIED
from dpe_ray.types import (
    Attribution,
    CellDiagnosis,
    Diagnosis,
    Failure,
    Graded,
    Provenance,
    Sample,
    Verdict,
    VerdictKind,
    content_id,
)

CATEGORY_KEYS = ("category", "subject")
"""First found counts."""
NO_CATEGORY = "mixed"
OUTAGES = ("Failed to obtain answer via API.",)
"""What VLMEvalKit records in place of a response when the endpoint did not answer."""
NO_RESPONSE = "recorded@1"
"""Grader of an answer that was never given."""
UNPARSABLE = "unparsable"
"""Error type of an answer without a form that can be graded."""
UNDECIDED = "undecidable"
"""Error type of a text that rules cannot tell from the reference. It counts as wrong: a judge may find it right."""
WRONG = "wrong"
"""Error type of an answer that rules found wrong."""
EXAMPLES = 3
"""Failures kept per cell."""


@dataclass(frozen=True)
class Response:
    """One recorded answer."""

    id: str
    """As the log names the item; empty when it does not."""
    sample: Sample
    """Without images."""
    text: str | None
    """None when the model was out of reach."""

    def graded(self) -> Graded:
        """Grade by rule; an outage is `not_judged`."""
        if self.text is None:
            return Graded(self.sample, "", Verdict(VerdictKind.NOT_JUDGED, NO_RESPONSE, "no response was recorded"))
        return Graded(self.sample, self.text, grade(self.sample, self.text))


def read_responses(path: Path) -> Iterator[Response]:
    """Give the answers of a JSONL file in its order.

    Raises PoolError with file and line for a row that is no answer, and for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        yield _response(json_object(line))
                    except PoolError as error:
                        raise PoolError(f"{path} line {number}: {error}") from error
    except OSError as error:
        raise PoolError(f"{path}: cannot be read ({error.strerror}); give a JSONL of responses") from error


def diagnose_responses(graded: Sequence[Graded]) -> Diagnosis:
    """Count graded answers by category and skill, cells in alphabetical order; several answers to an item all count.

    No judge saw them: a failure's error type is `wrong`, `undecidable` or `unparsable`, and where there are undecidable
    ones the accuracy is a lower bound. Raises PoolError without any answer.
    """
    if not graded:
        raise PoolError("no response to diagnose; give a file with at least one")
    members: dict[tuple[str, str], list[Graded]] = {}
    for item in graded:
        members.setdefault((item.sample.category, next(iter(item.sample.skills), UNSPECIFIED)), []).append(item)
    return Diagnosis(
        policy_version=0,
        cells=tuple(_cell(*key, members[key]) for key in sorted(members)),
        probe=content_id(sorted(g.sample.id for g in graded)),
        probed=len(graded),
        not_judged=sum(not g.verdict.judged for g in graded),
    )


def _cell(category: str, skill: str, items: Sequence[Graded]) -> CellDiagnosis:
    judged = [g for g in items if g.verdict.judged]
    failures = [_failure(g) for g in judged if not g.verdict.correct]
    correct = len(judged) - len(failures)
    return CellDiagnosis(
        category,
        skill,
        attempts=len(judged),
        correct=correct,
        **wilson(correct, len(judged))._asdict(),
        error_types=dict(sorted(Counter(f.attribution.error_type for f in failures).items())),
        failures=tuple(failures[:EXAMPLES]),
    )


def _failure(item: Graded) -> Failure:
    kind = WRONG
    if item.verdict.kind is VerdictKind.UNPARSABLE:
        kind = UNPARSABLE
    elif needs_judge(item.verdict):
        kind = UNDECIDED
    why = Attribution(kind, item.verdict.reason)
    return Failure(item.sample.id, item.sample.question, item.sample.answer.value, item.text, why)


def _response(row: Mapping[str, Any]) -> Response:
    if "response" not in row:
        raise PoolError(f"has no response; it has {', '.join(row)[:200] or 'nothing'}")
    said = row["response"]
    options = _options(row.get("options"))
    category = next((str(row[key]) for key in CATEGORY_KEYS if row.get(key)), NO_CATEGORY)
    sample = Sample(
        images=(),
        question=text_of(row, "question"),
        answer=answer_of(row, options),
        options=options,
        category=category.strip().replace("/", "-"),
        skills=tuple(str(skill) for skill in list_of(row, "skills")),
        provenance=Provenance("recorded"),
    )
    return Response(str(row.get("id", "")), sample, None if said is None or said in OUTAGES else str(said))


def _options(value: Any) -> tuple[str, ...]:
    """A list, or one written as text; of a list that holds only another list, that one."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise PoolError(f"options are no list ({error})") from error
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list | tuple | None):
        raise PoolError("options are no list")
    return tuple(str(option) for option in value or ())
