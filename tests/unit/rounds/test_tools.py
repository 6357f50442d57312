"""A supply whose slots begin with a cell, wired as a round wires it, with scripted models."""

import asyncio
import json
import pickle
from types import SimpleNamespace

import pytest
from unit.supply.cell_team import CellTeam, captioned
from unit.supply.conftest import GOOD
from unit.supply.test_budget import Door

from dpe_ray.config import parse_config
from dpe_ray.errors import ClusterError, PoolError
from dpe_ray.models.call_budget import Calls
from dpe_ray.models.images import read_bytes
from dpe_ray.models.journal import read_journal
from dpe_ray.models.price import Price
from dpe_ray.pool.contamination import HeldOut
from dpe_ray.rounds.ledger import cost, prices, read_calls, write_ledger
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.rounds.machine import Machine
from dpe_ray.rounds.record import summary
from dpe_ray.rounds.report import ReportData, RoundReport, render
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.store import RunFolder
from dpe_ray.rounds.tools import make_tools, read_places
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.supply.tools.image_search import WebSearchDoor
from dpe_ray.types import CellPlan, DataPlan, PolicyRef

CELLS = ("geometric/shape_colour", "geometric/line_length")
PLAN = DataPlan(tuple(CellPlan(*cell.split("/"), 0.5, 3, "look closely") for cell in CELLS), 6)
POLICY = PolicyRef("base")


@pytest.fixture
def team():
    team = CellTeam()
    team.says["question_writer"] = written
    return team


def written(request):
    """One question per cell: two cells may be shown the same images."""
    skill = request.messages[0].text.split("Cell: geometric/")[1].split("\n")[0]
    return json.dumps(GOOD["question_writer"] | {"question": f"What does {skill} say of the ring?"})


def config_of(concurrency=1, budget=None, **tools):
    return parse_config(
        {
            "name": "test",
            "models": {
                "student": {"source": "s", "engine": "transformers"},
                "team": {"base_url": "http://t/v1", "price": {"output": 50_000.0}},
                "painter": {"base_url": "http://p/v1", "model": "image-1", "price": {"image": 40.0}},
            },
            "roles": {"default": "team"},
            "pool": {"source": "p"},
            "probe": {"source": "b"},
            "decision": {"suite": "g"},
            "plan": {"total": 6},
            "supply": {"concurrency": concurrency, "annotate": {"start": "cell"}},
            "tools": tools,
            "budget": budget or {},
        },
        "test",
    )


def sets_of(pool):
    return SimpleNamespace(
        pool=pool, drawn_from=lambda: pool, support=(), probe=(), gate=(), final=(), held_out=HeldOut.build(())
    )


def stages_of(team, pool, folder, concurrency=1, budget=None, **tools):
    config, run, calls = config_of(concurrency, budget, **tools), RunFolder(folder), Calls()

    def door(role, stage, version):
        return Door(team, run.journal(stage), None if role == "student" else calls, prices(config)["team"])

    async def publish(policy):
        pass

    machine = Machine(LocalMapper(), door, None, Quotas, calls, None, publish)
    return make_stages(config, run, sets_of(pool), machine)


def paid(folder):
    return len([line for line in read_journal(folder / "journal") if line["endpoint"] == "team"])


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_a_round_fills_its_quotas_by_searching_for_each_cell(team, tmp_path, concurrency):
    pool, run = captioned(tmp_path / "pool", 30), RunFolder(tmp_path / "run")
    got = await stages_of(team, pool, run.path, concurrency).supply(POLICY, PLAN, 1)
    assert (got.shortfall, len(got.samples), got.closed_by) == ({}, 6, "quota")
    assert got.proposed == len(got.samples) + len(got.rejections)
    write_ledger(run.path)
    lines = [json.loads(line) for line in (run.path / "ledger.jsonl").read_text().splitlines()]
    searched = [line for line in lines if line["role"] == "image_search"]
    shown = {found["sha256"] for line in searched for found in line["results"]}
    assert {s.images[0].sha256 for s in got.samples} <= shown
    assert {line["item"] for line in searched} == {"red ring"}
    calls = read_calls(run.path / "journal")  # a call that was under way at the end may have come since
    teacher = [call for call in calls if call["endpoint"] == "team" and call["role"] != "student"]
    assert cost(calls, {}).teacher_calls == len(teacher), "a search is no teacher call"
    assert got.calls <= len(teacher)


@pytest.mark.parametrize(
    "budget", [{"usd": 2.0}, {"tokens": 120}, {"roles": {"image_selector": {"calls": 2}}}, {"teacher_calls": 8}]
)
async def test_a_limit_that_is_reached_closes_a_supply_that_begins_with_cells(team, tmp_path, budget):
    pool = captioned(tmp_path / "pool", 30)
    got = await stages_of(team, pool, tmp_path / "run", budget=budget).supply(POLICY, PLAN, 1)
    assert (got.closed_by, bool(got.shortfall)) == ("budget", True)
    assert {rejection.gate for rejection in got.rejections} <= {"budget"}
    assert len(got.rejections) <= 2, "no slot goes on asking behind the one that was refused"


async def test_samples_keep_query_and_parents_through_the_run_folder(team, tmp_path):
    team.reply("planner", edit="Mirror it.")
    pool, run = captioned(tmp_path / "pool", 30), RunFolder(tmp_path / "run")
    got = await stages_of(team, pool, run.path, edit={"how": "operations"}).supply(POLICY, PLAN, 1)
    run.round(1).save_samples(got.samples)
    assert run.round(1).load_samples() == got.samples
    (image,) = got.samples[0].images
    assert (image.origin, image.query, len(got.samples[0].provenance.parents)) == ("edit", "red ring", 1)
    assert (run.images / image.sha256).exists()


@pytest.mark.parametrize("cut", [1, 8, 17, 29])
async def test_a_supply_that_was_cut_off_ends_as_an_undisturbed_one_and_pays_nothing_twice(team, tmp_path, cut):
    pool = captioned(tmp_path / "pool", 30)
    whole = await stages_of(team, pool, tmp_path / "whole").supply(POLICY, PLAN, 1)
    good, left = team.chat.script, iter(range(cut))
    team.chat.script = lambda request: good(request) if next(left, None) is not None else ClusterError("killed")
    with pytest.raises(ClusterError):
        await stages_of(team, pool, tmp_path / "cut").supply(POLICY, PLAN, 1)
    team.chat.script = good
    assert await stages_of(team, pool, tmp_path / "cut").supply(POLICY, PLAN, 1) == whole
    assert paid(tmp_path / "cut") == paid(tmp_path / "whole")


async def test_slots_side_by_side_that_were_cut_off_go_on_with_their_places(team, tmp_path):
    pool, folder = captioned(tmp_path / "pool", 60), tmp_path / "cut"
    good, left = team.chat.script, iter(range(23))
    team.chat.script = lambda request: good(request) if next(left, None) is not None else ClusterError("killed")
    with pytest.raises(ClusterError):
        await stages_of(team, pool, folder, 4).supply(POLICY, PLAN, 1)
    # a process that dies ends its writing; here both runs share one
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
    before = read_places(RunFolder(folder), 1)
    team.chat.script = good
    got = await stages_of(team, pool, folder, 4).supply(POLICY, PLAN, 1)
    assert got.shortfall == {}
    after = read_places(RunFolder(folder), 1)
    assert before.of_slots.items() <= after.of_slots.items()
    assert len(set(after.of_slots.values())) == len(after.of_slots), "no place is given twice"
    keys = [line["key"] for line in read_journal(folder / "journal") if line["endpoint"] == "team"]
    assert len(keys) == len(set(keys)), "nothing is paid twice"


async def test_the_next_round_looks_behind_what_the_last_one_was_shown(team, tmp_path):
    pool, run = captioned(tmp_path / "pool", 60), RunFolder(tmp_path / "run")
    stages = stages_of(team, pool, run.path)
    first = await stages.supply(POLICY, PLAN, 1)
    run.round(1).save_samples(first.samples)
    second = await stages.supply(POLICY, PLAN, 2)
    assert not second.rejections
    for cell in CELLS:
        of = [{s.images[0].sha256 for s in got.samples if s.provenance.cell == cell} for got in (first, second)]
        assert not of[0] & of[1]


def test_a_pool_that_cannot_be_searched_is_told_before_anything_is_asked(team, tmp_path):
    pool = captioned(tmp_path / "pool", 3, caption="")
    with pytest.raises(PoolError, match=r"no image has a caption.*tools\.search\.source: web"):
        stages_of(team, pool, tmp_path / "run")
    stages_of(team, pool, tmp_path / "run", search={"source": "web"})


def test_tools_are_bound_as_the_config_says_and_pickle(tmp_path):
    pool, run, calls = captioned(tmp_path / "pool", 3), RunFolder(tmp_path / "run"), Calls()
    web = {"source": "web", "networks": ["10.0.0.0/8"], "user_agent": "me@example.org"}
    edit = {"how": "model", "model": "painter", "fields": {"size": "auto"}}
    tools = make_tools(config_of(search=web, edit=edit), run, sets_of(pool), calls, "01-supply")
    assert isinstance(tools.search, WebSearchDoor)
    assert tools.search.downloads.networks == ("10.0.0.0/8",)
    assert tools.search.downloads.user_agent == tools.search.openverse.user_agent == "me@example.org"
    model = tools.editor.model
    assert (model.name, model.base_url, model.model, model.extra, model.price) == (
        "painter",
        "http://p/v1",
        "image-1",
        {"size": "auto"},
        Price(image=40.0),
    )
    assert (tools.editor.budget, tools.journal) == (calls, str(run.journal("01-supply")))
    plain = make_tools(config_of(), run, sets_of(pool), calls, "01-supply")
    again = pickle.loads(pickle.dumps(plain))
    assert list(again.search.captions()) == list(pool.captions())


async def test_the_gallery_says_where_an_image_comes_from_and_what_was_done_to_it(team, tmp_path):
    team.reply("planner", edit="Mirror it.", query="<b>red</b> ring")
    pool, run = captioned(tmp_path / "pool", 30), RunFolder(tmp_path / "run")
    got = await stages_of(team, pool, run.path, edit={"how": "operations"}).supply(POLICY, PLAN, 1)
    report = ReportData("test", summary("running", (), None, None), (RoundReport(1, accepted=got.samples),), read_bytes)
    page = render(report)
    assert "searched by &ldquo;&lt;b&gt;red&lt;/b&gt; ring&rdquo;" in page
    assert "edited: edit of " in page
    assert "licence by 4.0" in page
    assert page.count("made of ") == len(got.samples)
