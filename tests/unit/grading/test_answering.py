import json
from collections.abc import AsyncIterator, Iterable

import pytest
from builders import FakeChat, make_sample, silent_chat

from dpe_ray.errors import BadRequest, BudgetExceeded, ClusterError
from dpe_ray.grading.answering import answer_all
from dpe_ray.ports import ChatDoor, MapSpec, Row, RowMapper
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.types import Graded, Sample, VerdictKind

SAMPLES = tuple(make_sample(f"Colour {i}?", "red" if i % 2 else "blue") for i in range(10))
RIGHT = json.dumps({"correct": True, "error_type": "other", "description": "same thing"})


async def ask(
    samples: tuple[Sample, ...], student: ChatDoor, judge: ChatDoor | None = None, mapper: RowMapper | None = None
) -> tuple[Graded, ...]:
    return await answer_all(
        samples, student, judge, mapper or LocalMapper(), max_tokens=40, workers=(1, 1), concurrency=4
    )


class Lossy:
    """Delivers backwards, every row twice, and keeps back the first `lost` rows."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost

    async def map(self, spec: MapSpec, rows: Iterable[Row]) -> AsyncIterator[Row]:
        work = spec.factory(spec.config)
        for row in list(rows)[self.lost :][::-1]:
            yield await work(row)
            yield await work(row)


async def test_answers_come_in_the_order_of_the_samples_however_rows_arrive() -> None:
    graded = await ask(SAMPLES, FakeChat(lambda r: "answer: red"), mapper=Lossy())
    assert [g.sample for g in graded] == list(SAMPLES)
    assert [g.verdict.correct for g in graded] == [bool(i % 2) for i in range(10)]


async def test_the_student_is_asked_greedily_once_under_the_answer_prompt() -> None:
    student = FakeChat(lambda r: "answer: red")
    await ask(SAMPLES[:1], student)
    (request,) = student.requests
    assert (request.n, request.temperature, request.max_tokens) == (1, 0.0, 40)
    assert (request.role, request.item, request.prompt_version) == ("student", SAMPLES[0].id, "answer@1")
    assert request.messages[0].images == SAMPLES[0].images


async def test_a_lost_row_is_an_error() -> None:
    with pytest.raises(ClusterError, match="1 of 10 rows were lost"):
        await ask(SAMPLES, FakeChat(lambda r: "answer: red"), mapper=Lossy(lost=1))


async def test_an_outage_of_the_student_is_never_a_wrong_answer() -> None:
    graded = await ask(SAMPLES, silent_chat())
    assert {g.verdict.kind for g in graded} == {VerdictKind.NOT_JUDGED}
    assert "did not answer" in graded[0].verdict.reason


async def test_a_refused_item_is_not_judged_and_the_others_are() -> None:
    bad = SAMPLES[3].id
    graded = await ask(SAMPLES, FakeChat(lambda r: BadRequest("too large") if r.item == bad else "answer: red"))
    assert [g.sample.id for g in graded if not g.verdict.judged] == [bad]


async def test_a_spent_budget_stops_everything() -> None:
    with pytest.raises(BudgetExceeded):
        await ask(SAMPLES, FakeChat(lambda r: BudgetExceeded("spent")))


async def test_the_judge_is_asked_only_where_rules_cannot_decide() -> None:
    judge = FakeChat(lambda r: RIGHT)
    graded = await ask(SAMPLES[1:3], FakeChat(lambda r: "answer: dark red"), judge)
    assert [r.item for r in judge.requests] == [SAMPLES[1].id]
    assert graded[0].verdict.correct
    assert graded[0].verdict.grader == "judge@1"


@pytest.mark.parametrize("judge", [silent_chat(), FakeChat(lambda r: "hm, hard to say")])
async def test_a_judge_that_is_down_or_unclear_leaves_the_item_not_judged(judge: FakeChat) -> None:
    (graded,) = await ask(SAMPLES[1:2], FakeChat(lambda r: "answer: dark red"), judge)
    assert graded.verdict.kind is VerdictKind.NOT_JUDGED


async def test_without_a_judge_only_equality_counts() -> None:
    (graded,) = await ask(SAMPLES[1:2], FakeChat(lambda r: "answer: dark red"))
    assert graded.verdict.kind is VerdictKind.WRONG


async def test_an_unreadable_reply_is_repaired_once() -> None:
    judge = FakeChat(lambda r: RIGHT if len(r.messages) == 3 else "Correct!")
    (graded,) = await ask(SAMPLES[1:2], FakeChat(lambda r: "answer: dark red"), judge)
    assert graded.verdict.correct
    assert len(judge.requests) == 2
