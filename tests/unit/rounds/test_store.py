import copy
import json

import pytest

from dpe_ray.config import load_config
from dpe_ray.errors import StoreError
from dpe_ray.rounds.store import RunFolder, Stage
from dpe_ray.types import (
    AgentStep,
    Answer,
    AnswerKind,
    Difficulty,
    Graded,
    ImageRef,
    PolicyRef,
    Provenance,
    Rejection,
    Sample,
    TrainResult,
    Verdict,
    VerdictKind,
)

IMAGE = ImageRef("a" * 64, "f" * 16, 64, 64, "image/png", "/tmp/a.png")


def full_sample(question="How many?"):
    return Sample(
        images=(IMAGE,),
        question=question,
        answer=Answer(AnswerKind.NUMBER, "3", ("three",), 0.5),
        rationale="1. count\nanswer: 3",
        category="diagram",
        skills=("counting",),
        provenance=Provenance(
            "generated", 1, "diagram/counting", (AgentStep("planner", "planner@1", "m", "k"),), '{"seed": 1}'
        ),
        difficulty=Difficulty(4 / 9, 9, 0),
    )


def bare_sample():
    return Sample((IMAGE,), "Which?", Answer(AnswerKind.CHOICE, "A"), ("x", "y"))


async def test_a_finished_stage_is_loaded_and_not_run_again(tmp_path):
    folder = RunFolder(tmp_path).round(1)
    runs, kept = [], []
    stage = Stage("diagnosis", kept.append, lambda: kept[-1])

    async def produce():
        runs.append(1)
        return "result"

    assert await folder.step(stage, produce) == "result"
    assert await folder.step(stage, produce) == "result"
    assert len(runs) == 1
    assert folder.seconds()["diagnosis"] >= 0


async def test_a_stage_that_raised_is_run_again(tmp_path):
    folder = RunFolder(tmp_path).round(1)
    stage = Stage("plan", lambda value: None, lambda: "loaded")

    def broken():
        raise ValueError("cut off")

    with pytest.raises(ValueError, match="cut off"):
        await folder.step(stage, broken)
    assert await folder.step(stage, lambda: "made") == "made"


@pytest.mark.parametrize("samples", [(), (full_sample(),), (bare_sample(),), (full_sample(), bare_sample())])
def test_samples_come_back_equal_from_parquet(tmp_path, samples):
    folder = RunFolder(tmp_path).round(1)
    folder.save_samples(samples)
    assert folder.load_samples() == samples


def test_rejections_come_back_with_and_without_a_sample(tmp_path):
    folder = RunFolder(tmp_path).round(1)
    rejections = (Rejection(1, "image", "truncated"), Rejection(2, "leak", "told", "a/b", full_sample()))
    folder.save_rejected(rejections)
    assert folder.load_rejected() == rejections


def test_verdict_sets_stand_side_by_side_and_are_replaced_by_name(tmp_path):
    folder = RunFolder(tmp_path).round(1)
    sample = full_sample()

    def graded(kind):
        return (Graded(sample, "answer: 3", Verdict(kind, "number@1", "why")),)

    folder.save_verdicts("probe", graded(VerdictKind.NOT_JUDGED))
    folder.save_verdicts("before", graded(VerdictKind.WRONG))
    folder.save_verdicts("before", graded(VerdictKind.CORRECT))
    by_id = {sample.id: sample}
    assert folder.load_verdicts("probe", by_id) == graded(VerdictKind.NOT_JUDGED)
    assert folder.load_verdicts("before", by_id) == graded(VerdictKind.CORRECT)


def test_a_dataclass_comes_back_equal_from_json(tmp_path):
    folder = RunFolder(tmp_path).round(1)
    result = TrainResult(PolicyRef("base", "adapter", 1), 2, ({"reward": 0.5}, {"reward": 0.75}))
    folder.save_json("training", result)
    assert folder.load_json("training", TrainResult) == result


def begun(folder, config):
    """A run that has asked something."""
    run = RunFolder.open(folder, config)
    run.journal("01-diagnose").mkdir(parents=True)
    (run.journal("01-diagnose") / "a.jsonl").write_text("{}\n")
    return run


def test_an_equal_config_goes_on_and_another_is_refused_with_the_difference(tmp_path):
    begun(tmp_path / "run", {"seed": 0, "train": {"steps": 2}})
    RunFolder.open(tmp_path / "run", {"seed": 0, "train": {"steps": 2}})
    with pytest.raises(StoreError, match=r"train\.steps was 2, is 3"):
        RunFolder.open(tmp_path / "run", {"seed": 0, "train": {"steps": 3}})


def test_a_run_that_asked_nothing_yet_takes_a_mended_config(tmp_path):
    RunFolder.open(tmp_path / "run", {"pool": {"source": "empty"}})
    run = RunFolder.open(tmp_path / "run", {"pool": {"source": "images"}})
    assert run.config() == {"pool": {"source": "images"}}


def test_what_cannot_reach_a_result_may_change_and_is_noted(tmp_path):
    begun(tmp_path / "run", {"seed": 0, "models": {"teacher": {"base_url": "http://a/v1", "model": "m"}}})
    moved = {"seed": 0, "models": {"teacher": {"base_url": "http://b/v1", "model": "m"}}}
    run = RunFolder.open(tmp_path / "run", moved)
    assert run.config() == moved
    (change,) = json.loads(run.config_file.read_text())["changes"]
    assert (change["key"], change["was"], change["now"]) == ("models.teacher.base_url", "http://a/v1", "http://b/v1")
    with pytest.raises(StoreError, match=r"models\.teacher\.model was 'm', is 'n'"):
        RunFolder.open(tmp_path / "run", {"seed": 0, "models": {"teacher": {"base_url": "http://c/v1", "model": "n"}}})
    assert run.config() == moved


def test_a_run_of_an_earlier_version_goes_on_with_todays_defaults(tmp_path):
    today = load_config("jobs/micro.yaml").model_dump(mode="json")
    earlier = copy.deepcopy(today)
    del earlier["train"]["dtype"], earlier["runtime"]["deterministic"]
    begun(tmp_path / "run", earlier)
    RunFolder.open(tmp_path / "run", today)
    today["train"]["dtype"] = "bf16"
    with pytest.raises(StoreError, match=r"train\.dtype was 'auto', is 'bf16'"):
        RunFolder.open(tmp_path / "run", today)


@pytest.mark.parametrize("name", ["file", "file/run", "/proc/no-run-here"])
def test_a_place_that_can_hold_no_run_is_one_error(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="no run can be kept here"):
        RunFolder.open(tmp_path / name, {"seed": 0})


def test_fresh_moves_the_old_run_aside_and_keeps_it(tmp_path):
    RunFolder.open(tmp_path / "run", {"seed": 0})
    RunFolder.open(tmp_path / "run", {"seed": 1}, fresh=True)
    seeds = sorted(json.loads(f.read_text())["config"]["seed"] for f in tmp_path.glob("run*/config.json"))
    assert seeds == [0, 1]


def test_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(StoreError, match="no run here"):
        RunFolder(tmp_path).config()
    with pytest.raises(StoreError, match=r"summary\.json is missing"):
        RunFolder(tmp_path).summary()
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="no run here"):
        RunFolder(tmp_path / "file").summary()
