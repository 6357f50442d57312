"""A model that is down never makes a wrong answer, whichever model and whichever set."""

import json
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from builders import FakeChat, make_image_ref, make_sample

from dpe_ray.config import parse_config
from dpe_ray.errors import ModelUnavailable
from dpe_ray.models.call_budget import Calls
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.rounds.machine import Machine
from dpe_ray.rounds.results import RoundResults
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.types import PolicyRef

ITEMS = [
    make_sample(f"What is thing {i}?", "red", image=make_image_ref(f"i{i}"), category="geometric") for i in range(12)
]
NO_STUDENT = {ITEMS[i].id for i in (0, 3)}
NO_JUDGE = {ITEMS[i].id for i in (3, 5, 6)}
WORDS = "a dark red car"
"""What the student says: rules cannot decide it."""


def answer(request):
    """A student whose answers no rule can decide, a judge that finds them wrong, an analyst; some of them down."""
    down = {"student": NO_STUDENT, "judge": NO_JUDGE}.get(request.role, set())
    if request.item in down:
        return ModelUnavailable(f"{request.role} is down")
    said = {
        "student": f"answer: {WORDS}",
        "judge": json.dumps({"correct": False, "error_type": "reasoning", "description": "no"}),
        "skill_analyst": json.dumps({"skill": "name_colours"}),
    }
    return said[request.role]


class Teacher:
    """The script of all roles, in which everyone but the student may be down."""

    is_down = False

    def answer(self, request):
        return ModelUnavailable("teacher is down") if self.is_down and request.role != "student" else answer(request)


@pytest.fixture
def teacher():
    return Teacher()


@pytest.fixture
def told():
    return []


@pytest.fixture
def run(tmp_path, teacher, told):
    """(stages, results of round 1) over the items as probe and as gate."""
    tree = {
        "name": "test",
        "models": {"student": {"source": "s", "engine": "transformers"}, "teacher": {"base_url": "http://t/v1"}},
        "pool": {"source": "p"},
        "probe": {"source": "b", "size": 12},
        "decision": {"suite": "g"},
    }
    folder, gate, chat = RunFolder(tmp_path), {s.id: s for s in ITEMS}, FakeChat(teacher.answer)

    async def publish(policy):
        pass

    machine = Machine(LocalMapper(), lambda role, stage, version: chat, None, Quotas, Calls(), None, publish)
    sets = SimpleNamespace(pool=None, drawn_from=None, probe=tuple(ITEMS), suites=lambda: {"gate": gate})
    stages = make_stages(parse_config(tree, "test"), folder, sets, machine)
    return stages, RoundResults(folder, 1, gate, {}, told.append)


def verdicts(results, name):
    rows = pq.read_table(results.folder.path / "verdicts.parquet").to_pylist()
    return {row["item"]: row["verdict"] for row in rows if row["set"] == name}


async def test_no_verdict_on_the_gate_is_wrong_where_student_or_judge_was_down(run):
    stages, results = run
    await results.step(results.before, lambda: stages.measure(PolicyRef("base"), "gate", 1))
    found = verdicts(results, "before")
    assert {item for item, verdict in found.items() if verdict == "not_judged"} == NO_STUDENT | NO_JUDGE
    assert list(found.values()).count("wrong") == 12 - 4


async def test_no_verdict_of_a_diagnosis_is_wrong_where_student_or_judge_was_down(run):
    stages, results = run
    diagnosis, _ = await results.step(results.diagnosis, lambda: stages.diagnose(PolicyRef("base"), 1))
    found = verdicts(results, "probe")
    assert {item for item, verdict in found.items() if verdict == "not_judged"} == NO_STUDENT | NO_JUDGE
    assert (diagnosis.not_judged, sum(cell.attempts for cell in diagnosis.cells)) == (4, 8)


async def diagnosed(stages, results):
    diagnosis, _ = await results.step(results.diagnosis, lambda: stages.diagnose(PolicyRef("base"), 1))
    return diagnosis


async def test_a_teacher_that_is_down_during_a_diagnosis_ends_it_unsaved_and_a_resumed_run_asks_again(
    run, teacher, monkeypatch
):
    stages, results = run
    monkeypatch.setattr(teacher, "is_down", True)
    monkeypatch.setattr(f"{__name__}.NO_STUDENT", set())
    monkeypatch.setattr(f"{__name__}.WORDS", "blue")
    with pytest.raises(ModelUnavailable, match=r"skills for 12 of 12 items \(teacher is down\)"):
        await diagnosed(stages, results)
    assert results.folder.seconds() == {}
    teacher.is_down = False
    diagnosis = await diagnosed(stages, results)
    assert {cell.skill for cell in diagnosis.cells} == {"name_colours"}


async def test_the_line_of_a_diagnosis_says_how_many_items_were_not_explained(run, told, monkeypatch):
    stages, results = run
    monkeypatch.setattr(f"{__name__}.WORDS", "blue")
    diagnosis = await diagnosed(stages, results)
    assert diagnosis.unexplained == len(NO_JUDGE - NO_STUDENT)
    assert "12 probes, 2 of 12 items not explained, weakest " in told[0]
