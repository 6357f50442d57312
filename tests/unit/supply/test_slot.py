import json
import pickle

import pytest
from builders import FakeChat, make_image_ref

from dpe_ray.errors import BadReply, BadRequest, BudgetExceeded, ClusterError, EndpointDown, ModelUnavailable, PoolError
from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.models.journal import Journal, JournaledChat
from dpe_ray.supply.annotate.refusal import Refused
from dpe_ray.supply.annotate.slot import ROLES, SlotConfig, SlotJob, annotate_slot
from dpe_ray.supply.gates import sample_key
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.types import Candidate, Rejection

CELL = "geometric/shape_colour"
IMAGE = make_image_ref("ring")


async def fill(job, slot=0):
    row = await annotate_slot(job)({"slot": slot, "image": IMAGE})
    assert row["slot"] == slot
    return row["outcome"], row["calls"]


async def test_a_good_slot_gives_a_sample_with_its_whole_history(team):
    book = Quotas({CELL: 10}, 4, 1000)
    outcome, calls = await fill(team.job(book, round=2, policy_version=7, instructions={CELL: "name\ncolours"}))
    assert isinstance(outcome, Candidate)
    sample = outcome.sample
    assert (sample.question, sample.answer.value, sample.category, sample.skills) == (
        "What colour is the ring?",
        "red",
        "geometric",
        ("shape_colour",),
    )
    assert (sample.provenance.source, sample.provenance.round, sample.provenance.cell) == ("generated", 2, CELL)
    assert [step.role for step in sample.provenance.steps] == list(ROLES)
    assert (sample.difficulty.pass_rate, sample.difficulty.n, sample.difficulty.policy_version) == (5 / 9, 9, 7)
    assert calls == 4
    state = await book.state()
    assert (state.accepted, state.calls) == ({CELL: 1}, 4)
    assert f"- {CELL}: name colours\n" in team.asked("planner")[0].messages[0].text


async def test_solver_and_student_see_only_the_answer_prompt_of_the_sample(team):
    outcome, _ = await fill(team.job())
    for role, n, heat in (("solver", 1, 0.0), ("student", 9, 1.0)):
        (request,) = team.asked(role)
        assert [m.text for m in request.messages] == [answer_prompt(outcome.sample).text]
        assert (request.n, request.temperature, request.messages[0].images) == (n, heat, (IMAGE,))


async def test_several_blind_solves_are_one_warm_request(team):
    await fill(team.job(solves=3))
    (request,) = team.asked("solver")
    assert (request.n, request.temperature) == (3, 1.0)


async def test_no_blind_solve_is_asked_when_none_is_wanted(team):
    outcome, calls = await fill(team.job(solves=0))
    assert isinstance(outcome, Candidate)
    assert not team.asked("solver")
    assert calls == 3


@pytest.mark.parametrize(
    ("role", "values", "gate"),
    [
        ("planner", {"cell": ""}, "no_open_cell"),
        ("planner", {"cell": "geometric/never_offered"}, "no_open_cell"),
        ("question_writer", {"question": ""}, "format"),
        ("question_writer", {"options": ["red", "blue"]}, "format"),
        ("question_writer", {"question": "What colour is the red ring?"}, "leak"),
        ("validator", {"image_category": "map"}, "category"),
        ("validator", {"visible": False}, "validator"),
        ("validator", {"answerable": False}, "validator"),
        ("validator", {"unambiguous": False}, "validator"),
        ("validator", {"answer_correct": False}, "validator"),
    ],
)
async def test_each_gate_names_its_refusal(team, role, values, gate):
    team.change(role, **values)
    book = Quotas({CELL: 10}, 4, 1000)
    outcome, calls = await fill(team.job(book))
    assert isinstance(outcome, Rejection)
    assert outcome.gate == gate
    assert outcome.reason
    assert (outcome.sample is None) is (role == "planner")
    assert outcome.cell == ("" if role == "planner" else CELL)
    state = await book.state()
    assert (state.accepted, state.calls) == ({CELL: 0}, calls)
    assert not team.asked("student")


@pytest.mark.parametrize("cell", ["Geometric / Shape Colour", "geometric/shape-colour", "`geometric/shape_colour`"])
async def test_cell_and_category_are_understood_however_they_are_written(team, cell):
    team.change("planner", cell=cell, image_category="Geometric")
    team.change("validator", image_category="Geometric")
    outcome, _ = await fill(team.job())
    assert isinstance(outcome, Candidate)
    assert (outcome.sample.category, outcome.sample.provenance.cell) == ("geometric", CELL)


async def test_a_category_may_hold_a_slash(team):
    cell = "Chart / Graph/read_value"
    team.change("planner", cell="chart_graph/read_value")
    team.change("validator", image_category="chart_graph")
    outcome, _ = await fill(team.job(Quotas({cell: 10}, 4, 1000)))
    assert (outcome.sample.category, outcome.sample.skills) == ("Chart / Graph", ("read_value",))


async def test_a_solver_that_disagrees_refuses_the_sample(team):
    team.says["solver"] = lambda request: ["answer: red", "answer: blue"]
    outcome, _ = await fill(team.job(solves=2))
    assert (outcome.gate, outcome.reason) == ("solver", "1 of 2 blind solves disagree with the answer")
    assert outcome.sample.provenance.cell == CELL


@pytest.mark.parametrize(("agreeing", "gate"), [(3, "solver"), (4, None), (5, None)])
async def test_so_many_solves_may_disagree_as_dissent_says(team, agreeing, gate):
    team.says["solver"] = lambda request: ["answer: red"] * agreeing + ["answer: blue"] * (5 - agreeing)
    outcome, _ = await fill(team.job(solves=5, dissent=1))
    assert (outcome.gate if isinstance(outcome, Rejection) else None) == gate


@pytest.mark.parametrize(("right", "gate"), [(2, "pass_rate"), (3, None), (7, None), (8, "pass_rate")])
async def test_only_what_the_student_solves_sometimes_passes(team, right, gate):
    team.says["student"] = lambda request: ["answer: red"] * right + ["I have no idea at all, I am sorry"] * (9 - right)
    outcome, _ = await fill(team.job())
    assert getattr(outcome, "gate", None) == gate
    assert outcome.sample.difficulty.pass_rate == right / 9


@pytest.mark.parametrize(("right", "gate"), [(0, None), (2, None), (7, None), (8, "pass_rate")])
async def test_a_cell_that_is_taught_by_example_takes_what_the_student_never_gets_right(team, right, gate):
    team.says["student"] = lambda request: ["answer: red"] * right + ["answer: blue"] * (9 - right)
    outcome, _ = await fill(team.job(by_example=frozenset({CELL})))
    assert getattr(outcome, "gate", None) == gate


async def test_the_pass_rate_of_a_choice_is_corrected_for_guessing(team):
    team.change("planner", question_type="choice")
    team.change("question_writer", options=["red", "blue", "green", "black"], answer="(a)")
    team.says["solver"] = lambda request: "answer: A"
    team.says["student"] = lambda request: ["answer: A"] * 4 + ["answer: B"] * 5
    outcome, _ = await fill(team.job())
    assert outcome.gate == "pass_rate"
    assert outcome.sample.answer.value == "A"


async def test_the_question_writer_is_told_why_and_may_try_again(team):
    tries = iter(["What colour is the red ring?", "Which colour\nis it?", "What colour is the ring?"])
    team.says["question_writer"] = lambda request: json.dumps({"question": next(tries), "answer": "red"})
    verdicts = iter([False, True])
    team.says["validator"] = lambda request: json.dumps(
        {
            "image_category": "geometric",
            "visible": next(verdicts),
            "answerable": True,
            "unambiguous": True,
            "answer_correct": True,
            "reason": "where?",
        }
    )
    outcome, calls = await fill(team.job())
    assert isinstance(outcome, Candidate)
    assert calls == 1 + 3 + 2 + 1
    last = team.asked("question_writer")[-1].messages[0].text
    assert "- What colour is the red ring?: the answer 'red' stands in the question\n" in last
    assert "- Which colour is it?: not visible: where?\n" in last


async def test_attempts_of_the_question_writer_are_limited(team):
    team.change("validator", answer_correct=False)
    outcome, calls = await fill(team.job(attempts=2))
    assert (outcome.gate, len(team.asked("question_writer")), calls) == ("validator", 2, 5)


async def test_an_image_of_another_category_is_not_tried_again(team):
    team.change("validator", image_category="map")
    await fill(team.job(attempts=3))
    assert len(team.asked("question_writer")) == 1


async def test_a_question_that_an_earlier_round_took_is_refused(team):
    first, _ = await fill(team.job())
    outcome, _ = await fill(team.job(seen=frozenset({sample_key(first.sample)})))
    assert outcome.gate == "duplicate"


async def test_a_sample_near_a_held_out_item_is_refused(team):
    outcome, _ = await fill(team.job(contamination=lambda sample: "near gate-1"))
    assert (outcome.gate, outcome.reason) == ("contamination", "near gate-1")
    assert not team.asked("validator")


@pytest.mark.parametrize("role", ROLES)
async def test_an_outage_of_any_role_is_counted_as_an_outage(team, role):
    team.fail(role)
    book = Quotas({CELL: 10}, 4, 1000)
    outcome, calls = await fill(team.job(book))
    assert outcome.gate == "outage"
    assert (await book.state()).calls == calls


@pytest.mark.parametrize(
    ("error", "gate"),
    [
        (BadReply("no JSON"), "unparsable"),
        (BadRequest("too long"), "refused_by_endpoint"),
        (BudgetExceeded("spent"), "budget"),
        (PoolError("image gone"), "image"),
    ],
)
async def test_failures_of_one_slot_are_counted_by_kind(team, error, gate):
    team.fail("validator", error)
    outcome, _ = await fill(team.job())
    assert (outcome.gate, outcome.reason) == (gate, str(error))


@pytest.mark.parametrize("error", [ClusterError("actor died"), EndpointDown("models.teacher is down")])
async def test_what_breaks_the_whole_stage_is_no_rejection(team, error):
    team.fail("validator", error)
    with pytest.raises(type(error)):
        await fill(team.job())


async def test_an_unreadable_reply_may_be_repaired_once(team):
    good = team.says["validator"]
    replies = iter(["The answer is fine!", good(None)])
    team.says["validator"] = lambda request: next(replies)
    outcome, calls = await fill(team.job())
    assert isinstance(outcome, Candidate)
    assert calls == 5
    first, second = team.asked("validator")
    assert second.messages[0] == first.messages[0]
    assert [m.role for m in second.messages] == ["user", "assistant", "user"]
    assert "holds no JSON object" in second.messages[2].text


@pytest.mark.parametrize("role", ["planner", "question_writer", "validator"])
async def test_a_role_that_stays_unreadable_ends_the_slot(team, role):
    team.says[role] = lambda request: '{"cell": 3'
    outcome, _ = await fill(team.job())
    assert outcome.gate == "unparsable"
    assert len(team.asked(role)) == 2


async def test_nothing_is_asked_when_no_cell_is_open(team):
    outcome, calls = await fill(team.job(Quotas({CELL: 0}, 4, 1000)))
    assert (outcome.gate, calls, team.chat.requests) == ("no_open_cell", 0, [])


async def test_a_spent_budget_is_named(team):
    outcome, _ = await fill(team.job(Quotas({CELL: 1}, 4, 0)))
    assert outcome.gate == "budget"


async def test_a_cell_that_fills_up_meanwhile_refuses_the_sample(team):
    book = Quotas({CELL: 1}, 4, 1000)
    good = team.says["student"]

    async def rival() -> None:
        await book.reserve(CELL, 99)
        await book.commit(99, "rival", 1)

    def answer(request):
        with pytest.raises(StopIteration):
            rival().send(None)
        return good(request)

    team.says["student"] = answer
    outcome, _ = await fill(team.job(book))
    assert (outcome.gate, outcome.cell) == ("quota", CELL)
    assert (await book.state()).accepted == {CELL: 1}


async def test_a_slot_whose_worker_died_after_its_commit_gives_its_sample_again_for_nothing(team, tmp_path):
    def worker():
        door = Journaled(team.chat, tmp_path)
        return SlotJob(SlotConfig(dict.fromkeys(ROLES, door)), book, {})

    # the cell is full and another one is open when the slot runs again
    book = Quotas({CELL: 1, "map/landmark": 1}, 4, 1000)
    first, calls = await fill(worker())
    team.chat.requests.clear()
    again, calls_again = await fill(worker())
    assert again == first
    assert isinstance(again, Candidate)
    assert (calls_again, team.chat.requests) == (calls, [])
    assert (await book.state()).accepted == {CELL: 1, "map/landmark": 0}


class Journaled:
    """A door whose calls are written down."""

    def __init__(self, chat, folder):
        self.chat, self.folder = chat, folder

    def open(self):
        return JournaledChat(self, Journal(self.folder, "team"), "team", "model")

    async def ask(self, request, call):
        return await self.chat.chat(request)


async def test_roles_behind_equal_doors_share_one_client():
    opened = []

    class Door(FakeChat):
        def open(self):
            opened.append(self)
            return self

    teacher, student = Door(lambda r: "x"), Door(lambda r: ModelUnavailable("y"))
    doors = dict.fromkeys(ROLES, teacher) | {"student": student}
    annotate_slot(SlotJob(SlotConfig(doors), Quotas({}, 1, 1), {}))
    assert opened == [teacher, student]


async def test_a_users_prompt_file_replaces_ours(team, tmp_path):
    path = tmp_path / "validator.jinja"
    path.write_text("You are the validator.\nQuestion: {{ question }}", encoding="utf-8")
    await fill(team.job(prompts={"validator": str(path)}))
    (request,) = team.asked("validator")
    assert request.messages[0].text == "You are the validator.\nQuestion: What colour is the ring?"
    assert request.prompt_version.startswith("validator@")


def test_a_refusal_pickles():
    refused = pickle.loads(pickle.dumps(Refused("leak", "told")))
    assert (refused.gate, refused.reason) == ("leak", "told")
