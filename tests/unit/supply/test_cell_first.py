"""Slots that begin with a cell: plan, search, selection, edit, and the same gates behind them."""

import json

import pytest
from builders import make_png
from unit.supply.cell_team import CellTeam, Web, captioned, pool_tools
from unit.supply.conftest import CELL
from unit.supply.test_slot import Journaled

from dpe_ray.errors import BudgetExceeded, ConfigError, ModelUnavailable
from dpe_ray.models.call_budget import Calls
from dpe_ray.models.journal import read_journal
from dpe_ray.models.openai_edits import EditSpec
from dpe_ray.models.price import Price
from dpe_ray.models.web_image import WebImage
from dpe_ray.pool.images import ImageStore
from dpe_ray.ports import Limits, Place
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.supply.annotate.cell_planner import place_item, place_of
from dpe_ray.supply.annotate.slot import ACQUIRING, ROLES, SlotConfig, SlotJob, annotate_slot
from dpe_ray.supply.annotate.supplier import AnnotateSupplier
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.supply.tools.edit_limits import EditLimits
from dpe_ray.supply.tools.image_editor import BoundedEdits, EditorDoor, ModelEditor, PillowEditor
from dpe_ray.supply.tools.image_search import PoolSearchDoor
from dpe_ray.supply.tools.operations import EditPlan
from dpe_ray.supply.tools.recorded import Tools
from dpe_ray.types import Candidate, CellPlan, DataPlan, Rejection

OTHER = "geometric/line_length"


@pytest.fixture
def team() -> CellTeam:
    return CellTeam()


async def fill(job, slot=0):
    row = await annotate_slot(job)({"slot": slot, "image": None})
    return row["outcome"], row["calls"]


async def test_a_slot_goes_from_its_cell_to_a_sample_with_its_whole_history(team, tmp_path):
    book = Quotas({CELL: 10}, 4, 1000)
    job = team.job(book, instructions={CELL: "name\ncolours"}, tools=pool_tools(tmp_path))
    outcome, calls = await fill(job)
    assert isinstance(outcome, Candidate)
    (image,) = outcome.sample.images
    assert (image.query, image.licence, image.origin) == ("red ring", "by 4.0", "pool")
    assert image.source.startswith(f"{tmp_path}/list.jsonl")
    assert [step.role for step in outcome.sample.provenance.steps] == [
        "planner", "image_search", "image_selector", "question_writer", "validator", "solver", "student",
    ]  # fmt: skip
    assert (outcome.sample.provenance.cell, outcome.sample.provenance.parents, calls) == (CELL, (), 5)
    (planned,), (selected,) = team.asked("planner"), team.asked("image_selector")
    assert planned.messages[0].images == ()
    assert f"Cell: {CELL}\nExercise: name colours\nSample: 1\n" in planned.messages[0].text
    assert "images cannot be changed here" in planned.messages[0].text
    assert len(selected.messages[0].images) == 4
    assert image == selected.messages[0].images[0]
    written = team.asked("question_writer")[0].messages[0].text
    assert "Plan: Ask its colour. The image was chosen to show: one ring. Difficulty: hard.\n" in written


async def supplied(team, tmp_path, quotas, slots=40, concurrency=3, **tools):
    async def book(wanted):
        return Quotas(wanted, 4, 1000)

    plan = DataPlan(tuple(CellPlan(*c.split("/"), 0.5, n, "") for c, n in quotas.items()), sum(quotas.values()))
    config = team.config(tools=pool_tools(tmp_path, **tools))
    supplier = AnnotateSupplier(None, slots, config, book, LocalMapper(), concurrency=concurrency)
    got = await supplier.fill(plan, plan.quotas, frozenset())
    assert got.proposed == len(got.samples) + len(got.rejections)
    return got


async def test_quotas_are_filled_and_no_two_samples_of_a_cell_share_an_image(team, tmp_path):
    got = await supplied(team, tmp_path, {CELL: 3, OTHER: 2}, candidates=2)
    assert (got.shortfall, got.closed_by, got.images) == ({}, "quota", 0)
    for cell, count in ((CELL, 3), (OTHER, 2)):
        images = [s.images[0].sha256 for s in got.samples if s.provenance.cell == cell]
        assert len(images) == len(set(images)) == count


async def test_what_is_refused_is_counted_by_reason_until_the_cell_gives_up(team, tmp_path):
    team.reply("image_selector", chosen=[])
    got = await supplied(team, tmp_path, {CELL: 2})
    assert (got.samples, got.shortfall, got.closed_by) == ((), {CELL: 2}, "exhausted")
    assert {(r.gate, r.cell) for r in got.rejections} <= {("image_selector", CELL), ("no_open_cell", "")}
    assert sum(r.gate == "image_selector" for r in got.rejections) == 8


async def test_the_neediest_cell_is_served_first_and_counted_while_in_flight():
    book = Quotas({"a/x": 4, "b/y": 2}, 4, 1000)
    assert [(await book.assign(slot)) for slot in range(4)] == [
        Place("a/x", 0), Place("b/y", 0), Place("a/x", 1), Place("a/x", 2),
    ]  # fmt: skip
    await book.release(0, 1)
    await book.release(2, 1)
    assert await book.assign(4) == Place("a/x", 3), "what failed is needed again"
    assert await book.assign(2) == Place("a/x", 1), "a slot that runs again has its place"
    assert (await book.state()).slots == {"a/x": 4, "b/y": 1}


async def test_what_was_assigned_before_an_interruption_is_assigned_again():
    book = Quotas({"a/x": 4, "b/y": 4}, 4, 1000)
    await book.restore({1: Place("a/x", 7)}, {"a/x": 8, "b/y": 2})
    assert [(await book.assign(slot)) for slot in range(3)] == [Place("a/x", 8), Place("a/x", 7), Place("b/y", 2)]


async def test_no_place_is_assigned_when_every_cell_is_closed():
    book = Quotas({"a/x": 1}, 1, 1000)
    assert await book.assign(0) == Place("a/x", 0)
    assert await book.assign(1) is None
    spent = Quotas({"a/x": 1}, 1, 3)
    assert await spent.assign(0) is None
    assert (await spent.state()).closed_by == "budget"


def test_a_place_survives_its_journal_entry():
    place = Place("chart: bars/read:axis", 3)
    assert place_of(place_item(17, place)) == (17, place)


@pytest.mark.parametrize(("reply", "told"), [
    ({"chosen": [], "reason": "all are blurred"}, "all are blurred"), ({"chosen": [9], "reason": ""}, "none of 4"),
])  # fmt: skip
async def test_a_selector_that_takes_nothing_ends_the_slot_with_its_reason(team, tmp_path, reply, told):
    team.reply("image_selector", **reply)
    book = Quotas({CELL: 10}, 4, 1000)
    outcome, calls = await fill(team.job(book, tools=pool_tools(tmp_path)))
    assert (outcome.gate, outcome.cell, calls) == ("image_selector", CELL, 2)
    assert told in outcome.reason
    assert not team.asked("question_writer")
    assert (await book.state()).calls == 2


async def test_a_query_that_finds_nothing_ends_the_slot_before_anybody_looks(team, tmp_path):
    team.reply("planner", query="submarine")
    outcome, calls = await fill(team.job(tools=pool_tools(tmp_path)))
    assert (outcome.gate, outcome.reason, calls) == ("image_search", "'submarine': nothing was found", 1)


async def test_an_edit_that_the_category_forbids_is_refused_and_counted(team, tmp_path):
    team.reply("planner", edit="Mirror it.")
    outcome, calls = await fill(team.job(tools=pool_tools(tmp_path, edits=True, forbidden=("flip",))))
    assert (outcome.gate, outcome.cell, calls) == ("image_editor", CELL, 3)
    assert "flip is not done to images of geometric" in outcome.reason
    (asked,) = team.asked("image_editor")
    assert '"op": "flip"' not in asked.messages[0].text
    assert '"op": "crop"' in asked.messages[0].text
    assert "instruction in words" not in asked.messages[0].text


async def test_an_edited_image_is_the_samples_and_its_parents_stay_known(team, tmp_path):
    team.reply("planner", edit="Mirror it.")
    held_out = []
    tools = pool_tools(tmp_path, edits=True)
    outcome, calls = await fill(team.job(tools=tools, contamination=lambda s: held_out.append(s.images)))
    assert isinstance(outcome, Candidate)
    (image,), (parent,) = outcome.sample.images, outcome.sample.provenance.parents
    assert (image.origin, image.licence, image.query, calls) == ("edit", "by 4.0", "red ring", 6)
    assert image.source.startswith(f"edit of {parent.sha256[:16]}, seed ")
    assert '{"op":"flip"}' in image.source
    assert held_out == [(image, parent)], "an edit must not lead a held-out image past the gate"
    assert [step.role for step in outcome.sample.provenance.steps][3:5] == ["image_editor", "image_operations"]
    assert team.asked("validator")[0].messages[0].images == (image,)


async def test_an_editor_may_leave_an_image_as_it_is(team, tmp_path):
    team.reply("planner", edit="Crop it, if you must.")
    team.replies["image_editor"] = {"edit": {}, "reason": "it is fine"}
    outcome, _ = await fill(team.job(tools=pool_tools(tmp_path, edits=True)))
    assert (outcome.sample.images[0].origin, outcome.sample.provenance.parents) == ("pool", ())


async def test_several_chosen_images_become_one(team, tmp_path):
    team.reply("image_selector", chosen=[2, 1])
    team.replies["image_editor"] = {"edit": {"operations": [{"op": "side_by_side", "lettered": True}]}}
    outcome, _ = await fill(team.job(tools=pool_tools(tmp_path, edits=True)))
    first, second = team.asked("image_selector")[0].messages[0].images[:2]
    assert outcome.sample.provenance.parents == (second, first)
    assert outcome.sample.images[0].width > first.width + second.width


async def test_a_fusion_that_would_leave_images_out_is_refused(team, tmp_path):
    team.reply("image_selector", chosen=[1, 2])
    outcome, _ = await fill(team.job(tools=pool_tools(tmp_path, edits=True)))
    assert outcome.gate == "image_editor"
    assert "2 images were chosen" in outcome.reason


async def test_without_an_editor_one_image_is_taken_as_it_is(team, tmp_path):
    team.reply("planner", edit="Mirror it.")
    team.reply("image_selector", chosen=[2, 1])
    outcome, _ = await fill(team.job(tools=pool_tools(tmp_path)))
    assert outcome.sample.images == team.asked("image_selector")[0].messages[0].images[1:2]
    assert not team.asked("image_editor")


@pytest.mark.parametrize("role", ["planner", "image_selector", "image_editor"])
async def test_a_role_that_stays_unreadable_ends_the_slot(team, tmp_path, role):
    team.reply("planner", edit="Mirror it.")
    team.says[role] = lambda request: '{"query": '
    outcome, _ = await fill(team.job(tools=pool_tools(tmp_path, edits=True)))
    assert (outcome.gate, len(team.asked(role))) == ("unparsable", 2)


@pytest.mark.parametrize("role", [*ROLES, *ACQUIRING])
async def test_an_outage_of_any_role_is_counted_as_an_outage(team, tmp_path, role):
    team.reply("planner", edit="Mirror it.")
    team.fail(role)
    outcome, _ = await fill(team.job(tools=pool_tools(tmp_path, edits=True)))
    assert outcome.gate == "outage"


async def test_a_pool_without_any_text_is_one_clear_error(team, tmp_path):
    pool = captioned(tmp_path, caption="")
    tools = Tools(PoolSearchDoor(lambda: (), pool.take))
    with pytest.raises(ConfigError, match=r"tools\.search\.source"):
        await fill(team.job(tools=tools))


def web_of(tmp_path):
    page, licence = "https://pictures.example/ring", "by-sa 4.0"
    found = [WebImage(f"https://h/{n}.png", page, licence, "Ada") for n in ("gone", "ring")]
    return Web(found, {"https://h/ring.png": make_png(3)}, ImageStore(tmp_path / "images"))


async def test_web_images_come_with_page_licence_and_query_and_refused_downloads_are_on_record(team, tmp_path):
    web = web_of(tmp_path)
    outcome, _ = await fill(team.job(tools=Tools(web, journal=str(tmp_path / "journal"))))
    (image,) = outcome.sample.images
    assert (image.origin, image.licence, image.query) == ("search", "by-sa 4.0", "red ring")
    assert image.source == "https://pictures.example/ring (Ada)"
    assert web.asked == [("red ring", 4, 0)]
    (line,) = read_journal(tmp_path / "journal")
    gates = [json.loads(text).get("gate", "") for text in line["texts"]]
    assert (line["role"], line["item"], gates) == ("image_search", "red ring", ["download", ""])


async def test_a_web_that_gives_nothing_usable_says_why(team, tmp_path):
    web = web_of(tmp_path)
    web.pictures.clear()
    outcome, _ = await fill(team.job(tools=Tools(web)))
    assert outcome.gate == "image_search"
    assert "all 2 were refused" in outcome.reason
    assert "HTTP 404" in outcome.reason


class Painter:
    """An editing model, its spec, and what it was asked."""

    name = "painter"

    def __init__(self, data):
        self.data, self.asked = data, []

    def open(self):
        return self

    async def edit(self, images, instruction, seed):
        self.asked.append(instruction)
        return self.data


def painted(team, web, tmp_path, painter):
    team.reply("planner", edit="Make it night.")
    team.replies["image_editor"] = {"edit": {"instruction": "Paint the sky black."}}
    editor = EditorDoor(ImageStore(tmp_path / "images"), EditLimits({}), painter)
    door = Journaled(team.chat, tmp_path / "journal")
    tools = Tools(web, editor=editor, journal=str(tmp_path / "journal"))
    return SlotConfig(dict.fromkeys((*ROLES, *ACQUIRING), door), tools=tools)


async def test_a_slot_is_replayed_from_the_journal_without_a_call_a_search_or_a_paid_edit(team, tmp_path):
    web, painter = web_of(tmp_path), Painter(make_png(5))
    config = painted(team, web, tmp_path, painter)
    first, calls = await fill(SlotJob(config, Quotas({CELL: 1}, 4, 1000), {}))
    assert isinstance(first, Candidate)
    assert (painter.asked, calls, len(first.sample.provenance.parents)) == (["Paint the sky black."], 7, 1)
    for log in (team.chat.requests, painter.asked, web.asked, web.fetched):
        log.clear()
    again = await fill(SlotJob(config, Quotas({CELL: 1}, 4, 1000), {}))
    assert again == (first, calls)
    assert team.chat.requests == painter.asked == web.asked == web.fetched == []


async def test_a_painted_image_that_cannot_be_used_is_paid_once(team, tmp_path):
    painter = Painter(b"<svg onload=alert(1)>")
    config = painted(team, web_of(tmp_path), tmp_path, painter)
    for _ in range(2):
        outcome, calls = await fill(SlotJob(config, Quotas({CELL: 1}, 4, 1000), {}))
        assert isinstance(outcome, Rejection)
        assert (outcome.gate, calls, len(painter.asked)) == ("image", 4, 1)


async def test_a_painter_keeps_to_the_budget(tmp_path):
    store, calls, painter = ImageStore(tmp_path), Calls(), Painter(make_png(5))
    editor = ModelEditor(BoundedEdits(painter, calls, Price(image=10.0)), PillowEditor(store, EditLimits({})))
    image, plan = store.put(make_png(1)), EditPlan(instruction="Paint.")
    await calls.allow({"image_editor": Limits(usd=0.01)})
    await editor.edit([image], plan, category="map", seed=0)
    with pytest.raises(BudgetExceeded, match=r"budget\.roles\.image_editor\.usd: "):
        await editor.edit([image], plan, category="map", seed=1)
    await calls.allow({"": Limits(calls=1)})
    painter.edit = failing
    with pytest.raises(ModelUnavailable):
        await editor.edit([image], plan, category="map", seed=2)
    assert not (await calls.take("image_editor")).refused, "a call without an answer is none"
    door = EditorDoor(store, EditLimits({}), EditSpec("painter", "http://h/v1", "m", price=Price(image=2.0)), calls)
    model = door.open().model
    assert isinstance(model, BoundedEdits)
    assert model.price == Price(image=2.0)


async def failing(images, instruction, seed):
    raise ModelUnavailable("503")


async def test_users_prompt_files_replace_those_of_the_new_tasks(team, tmp_path):
    prompts = {}
    for task in ("cell_planner", "image_selector", "image_editor"):
        path = tmp_path / f"{task}.jinja"
        path.write_text(f"My {task} of {{{{ cell }}}}", encoding="utf-8")
        prompts[task] = str(path)
    team.reply("planner", edit="Mirror it.")
    await fill(team.job(prompts=prompts, tools=pool_tools(tmp_path / "pool", edits=True)))
    for role, task in (("planner", "cell_planner"), *((role, role) for role in ACQUIRING)):
        assert team.asked(role)[0].messages[0].text == f"My {task} of {CELL}"
