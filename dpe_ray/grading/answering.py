"""The student answers items and is graded: one greedy answer each, the same for diagnosis and evaluation."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from dpe_ray.errors import BadRequest, ClusterError, ModelUnavailable
from dpe_ray.grading.judge import Judge, judge_prompt
from dpe_ray.grading.prompt import ANSWER_VERSION, answer_prompt
from dpe_ray.grading.rules import grade, needs_judge
from dpe_ray.ports import ChatDoor, ChatModel, ChatRequest, MapSpec, Message, Row, RowMapper
from dpe_ray.types import Graded, Sample, Verdict, VerdictKind

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnswerJob:
    """What a worker needs to answer and grade rows `{"id", "sample"}`."""

    student: ChatDoor
    judge: ChatDoor | None
    """For what rules cannot decide; without one only equality counts."""
    max_tokens: int
    judge_file: str = ""
    """The user's own judge prompt."""


def answer_rows(job: AnswerJob) -> Callable[[Row], Awaitable[Row]]:
    """Open the doors and build the row function: `{"id", "sample"}` to `{"id", "graded"}`."""
    student = job.student.open()
    judge = Judge(job.judge.open(), judge_prompt(job.judge_file)) if job.judge else None

    async def answer(row: Row) -> Row:
        return {"id": row["id"], "graded": await answer_one(row["sample"], student, judge, job.max_tokens)}

    return answer


async def answer_one(sample: Sample, student: ChatModel, judge: Judge | None, max_tokens: int) -> Graded:
    """Ask for one greedy answer and grade it. A student out of reach gives `not_judged`, never a wrong answer."""
    message = Message("user", answer_prompt(sample).text, sample.images)
    request = ChatRequest((message,), "student", sample.id, ANSWER_VERSION, max_tokens=max_tokens)
    try:
        text = (await student.chat(request)).texts[0]
    except (ModelUnavailable, BadRequest) as error:
        log.warning("answer to %s: %s", sample.id, error)
        return Graded(sample, "", Verdict(VerdictKind.NOT_JUDGED, ANSWER_VERSION, str(error)))
    verdict = grade(sample, text)
    if judge is not None and needs_judge(verdict):
        verdict = await judge.grade(sample, text)
    return Graded(sample, text, verdict)


async def answer_all(
    samples: Sequence[Sample],
    student: ChatDoor,
    judge: ChatDoor | None,
    mapper: RowMapper,
    *,
    max_tokens: int,
    workers: tuple[int, int],
    concurrency: int,
    judge_file: str = "",
) -> tuple[Graded, ...]:
    """Answer and grade every sample, in the order of the samples. Costs one student call each."""
    spec = MapSpec(answer_rows, AnswerJob(student, judge, max_tokens, judge_file), workers, concurrency, "answer")
    rows = [{"id": id_, "sample": sample} for id_, sample in {s.id: s for s in samples}.items()]
    graded = await collect(mapper, spec, rows, "graded")
    return tuple(graded[sample.id] for sample in samples)


async def collect(mapper: RowMapper, spec: MapSpec, rows: Sequence[Row], column: str) -> dict[str, Any]:
    """Gather one column of the mapped rows by id; of a row delivered twice the first counts.

    Raises ClusterError when a row is lost.
    """
    results: dict[str, Any] = {}
    async with aclosing(mapper.map(spec, rows)) as mapped:  # type: ignore[type-var]  # generators, seen as iterators
        async for row in mapped:
            results.setdefault(row["id"], row[column])
    missing = [row["id"] for row in rows if row["id"] not in results]
    if missing:
        lost = f"{len(missing)} of {len(rows)} rows were lost, {missing[0]} first"
        raise ClusterError(f"{spec.name}: {lost}; resume the run")
    return results
