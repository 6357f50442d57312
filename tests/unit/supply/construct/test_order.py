import json
import pickle

import pytest

from dpe_ray.errors import BadRequest, BudgetExceeded, ModelUnavailable
from dpe_ray.supply.construct.maker import Recipe, construct, read_params
from dpe_ray.supply.construct.order import Order, OrderConfig, OrderFiller, OrderJob, fill_order, fitting
from dpe_ray.supply.construct.registry import load_programs
from dpe_ray.types import Candidate, Rejection

CELL = "chart_graph/read_axis_value"


async def fill(crew, count=3, cell=CELL, **values):
    order = Order(10, count, cell, values.pop("level", 0.5), 0, values.pop("bases", ()), values.pop("ask", True))
    return await OrderFiller(OrderJob(crew.config(**values), {cell: "read\nvalues"})).fill(order)


def gates(filled):
    return {slot: "ok" if isinstance(o, Candidate) else o.gate for slot, o in sorted(filled.outcomes.items())}


async def test_one_call_gives_several_checked_samples(crew, bars):
    crew.samples = [bars(), bars(title="Snow"), bars(title="Hail")]
    filled = await fill(crew)
    assert gates(filled) == {10: "ok", 11: "ok", 12: "ok"}
    assert filled.calls == len(crew.planner.requests) == 1
    sample = filled.outcomes[10].sample
    assert (sample.answer.value, sample.category, sample.skills) == ("20", "chart_graph", ("read_axis_value",))
    assert (sample.difficulty.n, round(sample.difficulty.pass_rate, 2)) == (9, 0.56)
    roles = [step.role for step in sample.provenance.steps]
    assert (sample.provenance.source, sample.provenance.cell, roles) == (
        "constructed",
        CELL,
        ["planner", "program", "student"],
    )


@pytest.mark.parametrize(("taught", "gate"), [((), "pass_rate"), ((CELL,), "ok"), (("map/roads",), "pass_rate")])
async def test_what_is_never_got_right_is_kept_where_training_shows_it(crew, bars, taught, gate):
    crew.samples, crew.right = [bars()], 0
    assert gates(await fill(crew, 1, by_example=frozenset(taught))) == {10: gate}


async def test_the_planner_is_shown_schemas_and_what_the_cell_lacks(crew, bars):
    crew.samples = [bars()]
    await fill(crew)
    text = crew.planner.requests[0].messages[0].text
    assert all(part in text for part in (CELL, "read values", '"levels"', "bar_chart"))
    assert "floor_plan" not in text


async def test_the_provenance_holds_what_makes_the_sample_again(crew, bars):
    crew.samples = [bars()]
    sample = (await fill(crew, 1)).outcomes[10].sample
    told = json.loads(sample.provenance.recipe)
    program = load_programs()[told["program"]]
    assert (told["version"], told["params"]["title"], told["base"]) == (program.version, "Rain", "")
    recipe = Recipe(program.name, read_params(program, told["params"]), told["seed"])
    assert construct(program, recipe, crew.shelf, "chart_graph").id == sample.id


@pytest.mark.parametrize(
    "entry",
    [
        {"program": "bar_chart", "params": {}},
        {"program": "triangle", "params": {}},
        {"program": "import os", "params": {}},
        {"params": "no JSON"},
        {"program": "bar_chart", "params": [1]},
        "text",
        None,
        7,
    ],
)
async def test_one_bad_parameter_set_is_counted_and_spoils_no_other(crew, bars, entry):
    crew.samples = [entry, bars()]
    assert gates(await fill(crew, 2)) == {10: "params", 11: "ok"}


async def test_parameters_inside_a_string_are_read(crew, bars):
    crew.samples = [{**bars(), "params": json.dumps(bars()["params"])}]
    assert gates(await fill(crew, 1)) == {10: "ok"}


async def test_more_sets_than_were_asked_for_are_left(crew, bars):
    crew.samples = [bars(title=f"Rain {n}") for n in range(9)]
    assert len((await fill(crew, 2)).outcomes) == 2


async def test_what_the_planner_leaves_open_is_sampled(crew, bars):
    crew.samples, crew.right = [bars()], 5
    filled = await fill(crew, 3, pass_rate_samples=0)
    assert gates(filled) == {10: "ok", 11: "ok", 12: "ok"}


async def test_a_reply_that_is_mended_costs_two_calls(crew, bars):
    crew.replies, crew.samples = ["sorry"], [bars()]
    filled = await fill(crew, 1)
    assert (gates(filled), filled.calls) == ({10: "ok"}, 2)


@pytest.mark.parametrize(
    ("replies", "gate", "calls"),
    [
        (["sorry", "no"], "unparsable", 2),
        ([ModelUnavailable("503")], "outage", 0),
        ([BadRequest("too long")], "refused_by_endpoint", 0),
    ],
)
async def test_a_planner_that_fails_costs_one_slot_and_the_others_are_sampled(crew, replies, gate, calls):
    crew.replies = replies
    filled = await fill(crew, 3, pass_rate_samples=0)
    assert gates(filled) == {10: gate, 11: "ok", 12: "ok"}
    assert filled.calls == calls


async def test_a_spent_budget_costs_no_slot(crew):
    crew.replies = [BudgetExceeded("spent")]
    filled = await fill(crew, 2, pass_rate_samples=0)
    assert (gates(filled), filled.budget_spent) == ({10: "ok", 11: "ok"}, True)


async def test_a_skill_that_no_program_has_is_declined(crew):
    filled = await fill(crew, 4, cell="chart_graph/hear_music")
    assert (gates(filled), filled.declined) == ({10: "no_program"}, True)


async def test_without_a_planner_no_teacher_is_asked(crew):
    config = crew.config(pass_rate_samples=0)
    job = OrderJob(OrderConfig({}, config.store, pass_rate_samples=0), {})
    filled = await OrderFiller(job).fill(Order(0, 3, "geometric/missing_angle", 0.5, 0))
    assert (gates(filled), filled.calls) == ({0: "ok", 1: "ok", 2: "ok"}, 0)
    assert crew.planner.requests == []


@pytest.mark.parametrize(("right", "gate"), [(0, "pass_rate"), (5, "ok"), (9, "pass_rate")])
async def test_only_what_the_student_passes_sometimes_is_kept(crew, bars, right, gate):
    crew.samples, crew.right = [bars()], right
    filled = await fill(crew, 1)
    assert gates(filled) == {10: gate}
    assert filled.outcomes[10].sample.difficulty.pass_rate == pytest.approx(right / 9)


async def test_an_outage_of_the_student_is_no_wrong_answer(crew, bars):
    crew.samples = [bars()]
    crew.student.script = lambda request: ModelUnavailable("503")
    filled = await fill(crew, 1)
    assert gates(filled) == {10: "outage"}
    assert filled.outcomes[10].sample.difficulty is None


async def test_contamination_refuses(crew, bars):
    crew.samples = [bars()]
    assert gates(await fill(crew, 1, contamination=lambda sample: "too near")) == {10: "contamination"}


async def test_an_image_that_cannot_be_used_ends_its_slot_with_its_own_reason(crew, workshop):
    bases = (Rejection(0, "image", "no PNG"), workshop.photos[0])
    filled = await fill(crew, 2, "mixed/count_pasted", bases=bases, ask=False, pass_rate_samples=0)
    assert gates(filled) == {10: "image", 11: "ok"}
    assert filled.outcomes[10].reason == "no PNG"


async def test_a_program_that_slips_ends_its_slot_and_not_the_stage(crew, bars, monkeypatch):
    program = load_programs(("bar_chart",))["bar_chart"]
    monkeypatch.setattr(type(program), "make", lambda *args: [][1])
    crew.samples = [bars()]
    filled = await fill(crew, 1)
    assert gates(filled) == {10: "program"}
    assert "bar_chart: IndexError" in filled.outcomes[10].reason


def test_the_job_pickles_and_its_factory_is_importable(crew):
    config = OrderConfig({}, crew.shelf, contamination=None)
    job = OrderJob(config, {CELL: "x"}, frozenset({"seen"}))
    assert pickle.loads(pickle.dumps(job)) == job
    assert pickle.loads(pickle.dumps(fill_order)) is fill_order


@pytest.mark.parametrize(
    ("skill", "asks"),
    [
        ("reading_values", {"read_value"}),
        ("counting", {"count_above_threshold"}),
        ("comparing_the_difference_of_values", {"value_difference"}),
        ("unspecified", {"read_value", "value_difference", "count_above_threshold", "rank_values"}),
        ("smell", set()),
    ],
)
def test_a_skill_is_matched_by_word_stems(skill, asks):
    assert {ask for _, ask in fitting([load_programs()["bar_chart"]], skill)} == asks
