"""What a training tells: to files always, to trackers that are really opened, and never at the cost of its end."""

import json
import logging
from contextlib import suppress
from dataclasses import replace

import pytest
from builders import make_image_ref, make_png, make_sample

from dpe_ray.pool.images import ImageStore
from dpe_ray.train.tracking import trackers
from dpe_ray.train.tracking.shown import shown_of
from dpe_ray.train.tracking.trackers import TrackingSettings
from dpe_ray.train.tracking.tracking import Tracking
from dpe_ray.types import Completion, Prompt, Rollout, RolloutGroup


@pytest.fixture
def groups(tmp_path):
    """Two groups about two pictures; the first of them writes what no page should run."""
    store = ImageStore(tmp_path / "images")
    return [
        group(f"What is in picture {i}?", store.put(make_png(i)), *texts)
        for i, texts in enumerate((("<script>alert(1)</script>", "a cat"), ("a dog", "a fish")))
    ]


def group(question, image, *texts):
    sample = make_sample(question, image=image)
    rollouts = tuple(Rollout(Completion(text, (1,), (-0.5,)), float(i)) for i, text in enumerate(texts))
    return RolloutGroup(Prompt(sample, question), rollouts, 3)


def track(folder, groups, *to, **options):
    with opened(folder, *to, **options) as tracking:
        for step in (1, 2):
            tracking.log(step, {"reward": 0.25 * step, "completions/mean_length": 7.0}, groups)


def opened(folder, *to, **options):
    return Tracking(
        TrackingSettings(to, "project", "run-round-01", "run", str(folder), 3, {"lr": 0.1, "seed": 0}, options)
    )


def track_after_a_death(folder, groups, *to, **options):
    """The second step was told, and is made again; then the training fails."""
    tracking = opened(folder, *to, **options)
    for step in (1, 2):
        tracking.log(step, {"reward": 0.0}, groups)
    with suppress(KeyError), opened(folder, *to, **options) as tracking:
        for step in (2, 3):
            tracking.log(step, {"reward": 1.0}, groups)
        raise KeyError


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_files_are_always_written(tmp_path, groups):
    track(tmp_path / "out", groups)
    assert lines(tmp_path / "out" / "metrics.jsonl") == [
        {"step": step, "reward": 0.25 * step, "completions/mean_length": 7.0} for step in (1, 2)
    ]
    written = lines(tmp_path / "out" / "completions.jsonl")
    assert [line["step"] for line in written] == [1, 1, 1, 2, 2, 2]
    assert {line["completion"] for line in written} == {"<script>alert(1)</script>", "a cat", "a dog", "a fish"}
    assert written[0]["images"] == [groups[1].prompt.sample.images[0].uri]


def test_the_best_and_the_worst_of_a_group_are_shown_and_every_group_has_its_turn(groups):
    first, second = shown_of(groups, 2, 1), shown_of(groups, 2, 2)
    assert [(one.completion, one.reward) for one in first] == [("a fish", 1.0), ("a dog", 0.0)]
    assert [one.completion for one in second] == ["a cat", "<script>alert(1)</script>"]
    assert len(shown_of(groups, 9, 0)) == 4
    assert shown_of(groups, 0, 0) == []


def test_tensorboard_gets_numbers_texts_and_pictures(tmp_path, groups):
    from tensorboardX.proto.event_pb2 import Event

    track(tmp_path / "out", groups, "tensorboard")
    (file,) = (tmp_path / "out" / "tensorboard").iterdir()
    values = [value for event in events(file, Event) for value in event.summary.value]
    rewards = [value.simple_value for value in values if value.tag == "reward"]
    assert rewards == [0.25, 0.5]
    assert sum(value.HasField("image") for value in values) == 6
    told = [value for value in values if value.tag.startswith("completions/") and value.tensor.string_val]
    texts = [value.tensor.string_val[0].decode() for value in told]
    assert all(line.startswith("    ") for text in texts for line in text.splitlines())
    assert any("<script>" in text for text in texts)


def events(file, kind):
    """Records of length, checksum, data, checksum."""
    data, at = file.read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        yield kind.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size


def test_wandb_is_told_without_a_network(tmp_path, groups, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    track(tmp_path / "out", groups, "wandb")
    (run,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    assert list(run.glob("run-*.wandb"))
    first, _ = sorted(run.glob("files/media/table/completions*.json"))
    table = json.loads(first.read_text())
    assert table["columns"] == ["row", "prompt", "answer", "completion", "reward"]
    assert len(list(run.glob("files/media/images/**/*.png"))) == 2 * len(groups), "each picture once a step"
    assert [row[3] for row in table["data"]] == ["a fish", "a dog", "a cat"]


def test_mlflow_is_told_at_a_place_of_ones_own(tmp_path, groups, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a server would want a database
    from mlflow import MlflowClient

    uri = f"file:{tmp_path / 'mlruns'}"
    track(tmp_path / "out", groups, "mlflow", mlflow={"tracking_uri": uri, "team": "vision"})
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("project").experiment_id])
    assert (run.data.tags["group"], run.data.tags["team"], run.info.status) == ("run", "vision", "FINISHED")
    assert [m.value for m in client.get_metric_history(run.info.run_id, "reward")] == [0.25, 0.5]
    assert len(client.list_artifacts(run.info.run_id, "completions")) == 12


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(tmp_path, groups, monkeypatch, caplog):
    class Failing:
        asked = 0

        def __init__(self, settings):
            pass

        def show(self, step, shown):
            Failing.asked += 1
            raise OSError("no route to host")

    monkeypatch.setitem(trackers.TRACKERS, "failing", ("", Failing))
    with caplog.at_level(logging.ERROR):
        track(tmp_path / "out", groups, "failing")
    assert Failing.asked == 1
    assert "failing fails and is left out" in caplog.text
    assert len(lines(tmp_path / "out" / "metrics.jsonl")) == 2


def test_a_tracker_that_cannot_be_opened_does_not_end_the_training(tmp_path, groups, monkeypatch, caplog):
    def refused(settings):
        raise RuntimeError("no API key")

    monkeypatch.setitem(trackers.TRACKERS, "refused", ("", refused))
    with caplog.at_level(logging.ERROR):
        track(tmp_path / "out", groups, "refused")
    assert "refused cannot be opened" in caplog.text
    failures = (tmp_path / "out" / "failures.log").read_text()
    assert failures == "refused cannot be opened; this training is not told to it (RuntimeError: no API key)\n"
    assert len(lines(tmp_path / "out" / "metrics.jsonl")) == 2


def test_text_only_prompts_are_shown_too(tmp_path):
    asked = group("Why?", make_image_ref(), "so", "thus")
    bare = replace(asked, prompt=replace(asked.prompt, sample=replace(asked.prompt.sample, images=())))
    track(tmp_path / "out", [bare], "tensorboard")
    assert len(lines(tmp_path / "out" / "completions.jsonl")) == 4


def test_steps_that_are_made_again_after_a_death_stand_once_in_the_files(tmp_path, groups):
    track_after_a_death(tmp_path, groups)
    assert [(line["step"], line["reward"]) for line in lines(tmp_path / "metrics.jsonl")] == [(1, 0), (2, 1), (3, 1)]
    assert [line["step"] for line in lines(tmp_path / "completions.jsonl")] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    with opened(tmp_path) as tracking:
        tracking.log(4, {"reward": 1.0}, groups)
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_a_training_that_goes_on_is_the_same_run_and_a_failed_one_is_told_as_such(tmp_path, groups, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    from mlflow import MlflowClient

    uri = f"file:{tmp_path / 'mlruns'}"
    track_after_a_death(tmp_path / "out", groups, "mlflow", "wandb", mlflow={"tracking_uri": uri})
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("project").experiment_id])
    assert run.info.status == "FAILED"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "reward")] == [1, 2, 2, 3]
    names = {path.name.split("-")[3] for path in (tmp_path / "out" / "wandb").glob("offline-run-*")}
    assert names == {json.loads((tmp_path / "out" / trackers.RUN_IDS).read_text())["wandb"]}
