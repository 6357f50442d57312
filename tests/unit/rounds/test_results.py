from dataclasses import replace

from builders import make_sample

from dpe_ray.rounds.results import RoundResults
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import Difficulty, PolicyRef, Provenance, Rejection


def closed_round(run: RunFolder, index: int, kept: dict[str, int], missed: dict[str, int], source: str) -> None:
    """A round whose supply kept and missed so many candidates of each cell by their pass rate."""
    results = RoundResults(run, index, {}, {}, lambda line: None)
    samples = tuple(
        replace(
            make_sample(f"{cell} {n}?"),
            provenance=Provenance(source, index, cell),
            difficulty=Difficulty(0.5, 9, 0),
        )
        for cell, count in kept.items()
        for n in range(count)
    )
    rejections = tuple(
        Rejection(n, "pass_rate", "0 of 9", cell) for cell, count in missed.items() for n in range(count)
    )
    others = (Rejection(0, "leak", "the answer is told", "map/roads"), Rejection(1, "no_open_cell", "closed"))
    results.supply.save(Supplied(samples, rejections + others, 0, {}, "quota", 0))


def test_yields_are_the_share_in_the_band_of_all_earlier_rounds_and_other_gates_do_not_count(tmp_path):
    run = RunFolder(tmp_path)
    closed_round(run, 1, {"map/roads": 1}, {"map/roads": 3, "chart/bars": 2}, "generated")
    closed_round(run, 2, {"map/roads": 2}, {}, "generated")
    closed_round(run, 3, {"map/roads": 90}, {}, "generated")
    assert RoundResults(run, 1, {}, {}, print).band_yields() == {}
    assert RoundResults(run, 3, {}, {}, print).band_yields() == {"map/roads": 0.5, "chart/bars": 0.0}


def test_what_was_retrieved_says_nothing_about_the_band(tmp_path):
    run = RunFolder(tmp_path)
    closed_round(run, 1, {"map/roads": 4}, {}, "retrieved")
    assert RoundResults(run, 2, {}, {}, print).band_yields() == {}


async def test_a_second_batch_goes_where_the_first_left_most_uncertain(wired):
    _, _, _, stages = wired("error_driven", "probe={source: b, size: 20, second: 10}")
    diagnosis, graded = await stages.diagnose(PolicyRef("base"), 1)
    asked = [g.sample.category for g in graded]
    assert (diagnosis.probed, len({g.sample.id for g in graded})) == (30, 30)
    assert asked.count("chart") >= 17, "10 and most of 10: maps are always wrong, charts every other time"


async def test_without_a_second_batch_the_categories_are_asked_alike(wired):
    _, _, _, stages = wired("error_driven", "probe={source: b, size: 20}")
    _, graded = await stages.diagnose(PolicyRef("base"), 1)
    assert [g.sample.category for g in graded].count("chart") == 10
