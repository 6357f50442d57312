import json
from dataclasses import replace

from builders import make_sample

from dpe_ray.models.call_budget import Calls
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.rounds.machine import Machine
from dpe_ray.rounds.results import RoundResults, told
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import Difficulty, PolicyRef, Provenance, Rejection, TrainResult


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


async def test_the_diagnosis_merges_names_by_the_embeddings_that_the_config_names(wired, models):
    class Same:
        def open(self):
            return self

        async def embed(self, texts):
            return [(1.0, 0.0) for _ in texts]

    opened = []
    entry = "models.e5={base_url: 'http://e5/v1'}"
    config, run, sets, _ = wired("error_driven", entry, "diagnose={embedder: e5, method: categories}")
    names = iter(f"skill_{n}" for n in range(100))
    models.skill_analyst = lambda text, request: json.dumps({"skill": next(names)})
    embedder = lambda name: opened.append(name) or Same()  # noqa: E731
    machine = Machine(LocalMapper(), models.door, embedder, Quotas, Calls(), models, models.publish)
    diagnosis, _ = await make_stages(config, run, sets, machine).diagnose(PolicyRef("base"), 1)
    assert opened == ["e5"]
    assert len(diagnosis.cells) == 2, "all names of a category mean the same to this embedder"


def test_an_open_round_is_told_stage_by_stage_down_to_the_last_step_of_its_training(tmp_path):
    run = RunFolder(tmp_path)
    closed_round(run, 1, {"map/roads": 2}, {"map/roads": 1}, "generated")
    results = RoundResults(run, 1, {}, {}, print)
    assert list(results.lines()) == [], "a stage that has no seconds is not done"
    run.round(1).note({"supply": 12.0})
    supply = "round 1  supply       12.0 s  2 accepted of 0 proposed, most refused by leak (1), no_open_cell (1)"
    assert [line.replace("pass_rate (1), ", "").replace(", pass_rate (1)", "") for line in results.lines()] == [supply]
    run.round(1).steps.parent.mkdir(parents=True)
    steps = [{"step": n, "steps_left": 9 - n, "reward": n / 10, "step_time_s": 20.0} for n in (1, 2, 3)]
    run.round(1).steps.write_text("\n".join(map(json.dumps, steps)))
    step = "step 2, 7 to go, reward 0.20, 20.0 s a step, 2 min left"
    assert list(results.lines())[1] == f"round 1  training   {'':10}{step}"
    results.training.save(TrainResult(PolicyRef("p"), 3, ({"reward": 0.1}, {"reward": 0.4})))
    run.round(1).note({"supply": 12.0, "training": 60.0})
    assert list(results.lines())[1] == "round 1  training     60.0 s  3 steps, reward 0.10 -> 0.40"


def test_a_training_in_which_nothing_was_learned_or_samples_were_left_out_is_told_as_such():
    even = {"reward": 0.0, "frac_reward_zero_std": 1.0, "reward_errors": 2.0}
    result = TrainResult(PolicyRef("p"), 2, (even, even), {"grpo: too long": 3})
    assert told(result) == (
        "2 steps, reward 0.00 -> 0.00; 4 rewards failed and count 0; nothing was learned: all answers of a prompt had "
        "equal rewards, at every step; 3 samples left out (grpo: too long)"
    )
    assert told(TrainResult(PolicyRef("p"), 1, ({"loss": 0.5},))) == "1 steps, loss 0.50 -> 0.50"
