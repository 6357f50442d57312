import json
from typing import Any

import pytest
from builders import FakeChat, make_sample, silent_chat

from dpe_ray.diagnose.stage import diagnose
from dpe_ray.errors import ModelUnavailable, PoolError
from dpe_ray.ports import ChatRequest
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.taxonomy import Taxonomy
from dpe_ray.types import Diagnosis, Graded, Sample

PROBE = tuple(
    make_sample(f"{skill} {i}?", "red", category=category)
    for category, skill in (("map", "find_way"), ("map", "read_name"), ("medical", "spot_mark"))
    for i in range(10)
)
QUESTION = {s.id: s.question for s in PROBE}


def student(request: ChatRequest) -> str:
    """Right in the first seven of every ten."""
    return f"1. look\nanswer: {'red' if int(QUESTION[request.item].split()[1][:-1]) < 7 else 'blue'}"


def analyst(request: ChatRequest) -> str:
    return json.dumps({"skill": QUESTION[request.item].split()[0]})


def judge(request: ChatRequest) -> str:
    return json.dumps({"correct": False, "error_type": "reasoning", "description": "It took the wrong turn."})


async def run(probe: tuple[Sample, ...] = PROBE, **fakes: Any) -> tuple[Diagnosis, tuple[Graded, ...]]:
    doors = {"student": FakeChat(student), "judge": FakeChat(judge), "analyst": FakeChat(analyst)} | fakes
    return await diagnose(
        3,
        probe,
        doors["student"],
        doors["judge"],
        doors["analyst"],
        LocalMapper(),
        taxonomy=Taxonomy({}),
        max_tokens=40,
        failures_per_cell=2,
        workers=(1, 1),
        concurrency=8,
    )


async def test_cells_count_judged_items_by_category_and_skill() -> None:
    diagnosis, graded = await run()
    assert [(c.cell, c.attempts, c.correct) for c in diagnosis.cells] == [
        ("map/find_way", 10, 7),
        ("map/read_name", 10, 7),
        ("medical/spot_mark", 10, 7),
    ]
    assert all(c.low < 0.7 < c.high for c in diagnosis.cells)
    assert (diagnosis.policy_version, diagnosis.probed, diagnosis.not_judged) == (3, 30, 0)
    assert [g.sample.id for g in graded] == [s.id for s in PROBE]
    assert graded[0].sample.skills == ("find_way",)


async def test_only_failures_are_attributed_and_some_are_kept_as_examples() -> None:
    door = FakeChat(judge)
    diagnosis, _ = await run(judge=door)
    assert len(door.requests) == 9
    assert diagnosis.cells[0].error_types == {"reasoning": 3}
    assert len(diagnosis.cells[0].failures) == 2
    assert diagnosis.cells[0].failures[0].attribution.description == "It took the wrong turn."


async def test_an_outage_of_the_student_lowers_n_and_nothing_else() -> None:
    silent = {s.id for s in PROBE[:5]}
    half = FakeChat(lambda r: ModelUnavailable("down") if r.item in silent else student(r))
    diagnosis, _ = await run(student=half)
    assert diagnosis.not_judged == 5
    assert (diagnosis.cells[0].attempts, diagnosis.cells[0].correct) == (5, 2)


async def test_an_outage_of_the_judge_leaves_failures_counted_and_unexplained() -> None:
    diagnosis, _ = await run(judge=silent_chat())
    assert diagnosis.cells[0].error_types == {"not_judged": 3}
    assert diagnosis.cells[0].correct == 7


@pytest.mark.parametrize("reply", ["no idea", '{"correct": false, "error_type": "bad luck", "description": null}'])
async def test_an_unclear_judge_gives_the_error_type_other(reply: str) -> None:
    diagnosis, _ = await run(judge=FakeChat(lambda r: reply))
    assert diagnosis.cells[0].error_types == {"other": 3}


async def test_an_item_that_was_never_judged_keeps_its_category_in_the_diagnosis() -> None:
    silent = {s.id for s in PROBE if s.category == "medical"}
    door = FakeChat(lambda r: ModelUnavailable("down") if r.item in silent else student(r))
    diagnosis, _ = await run(student=door)
    assert diagnosis.by_category()["medical"] == (0, 0)


async def test_a_total_outage_is_no_diagnosis() -> None:
    with pytest.raises(ModelUnavailable, match="no probe item could be judged"):
        await run(student=silent_chat())


async def test_an_empty_probe_is_refused() -> None:
    with pytest.raises(PoolError):
        await run(())
