"""`dpe-ray doctor RUN.yaml` on a machine with two cores and no accelerator."""

import httpx2
import huggingface_hub
import pytest
import yaml
from builders import make_png

from dpe_ray.runtime import doctor, preflight

CONFIG = {
    "name": "x",
    "models": {"student": {"source": "builtin:micro-student", "engine": "transformers"}},
    "roles": {"default": "student"},
    "pool": {"source": "pool"},
    "probe": {"source": "builtin:micro-probe"},
    "decision": {"suite": "builtin:micro-gate"},
}


@pytest.fixture
def missing(monkeypatch, tmp_path):
    """Gives what is missing for the config with these overrides."""
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "a.png").write_bytes(make_png(1))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(doctor, "_gpus", list)

    def examine(*overrides):
        return [f"{f.what}: {f.found}" for f in doctor.examine(tmp_path / "run.yaml", overrides) if not f.ok]

    return examine


def test_a_run_that_fits_misses_nothing_and_no_package_of_another_engine_is_named(missing):
    assert missing() == []
    assert not {finding.what for finding in doctor.examine()} & {"vllm", "deepspeed"}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("models.student.num_cpus=8", "this machine has 2"),
        ("models.student.num_gpus=1", "asks for 1 GPUs"),
        ("train.use_gpu=true", "asks for 1 GPUs"),
        ("models.student.options={device: cuda}", "cuda, and num_gpus is 0"),
        ("models.student.options={thraeds: 2}", "no option 'thraeds'"),
        ("decision.suite=nowhere.parquet", "decision.suite: nowhere.parquet: does not exist"),
        ("pool.source=builtin:micro-wrld", "did you mean micro-world?"),
        ("name=a/b", "'a/b' names no folder"),
    ],
)
def test_each_lack_is_one_finding(missing, override, told):
    found = missing(override)
    assert len(found) == 1
    assert told in found[0]


def test_all_lacks_are_listed_at_once(missing):
    assert len(missing("models.student.num_cpus=8", "models.student.num_gpus=1", "decision.suite=nowhere")) == 3


def test_missing_gpus_are_told_with_the_gpus_of_each_part(missing):
    (told,) = missing("models.student.num_gpus=2", "models.student.replicas={min: 1, max: 2}", "train.use_gpu=true")
    assert "asks for 5 GPUs (models.student (2 x 2) = 4, train (1 x 1) = 1)" in told


def test_a_pool_without_one_readable_picture_is_found(missing, tmp_path):
    (tmp_path / "pool" / "a.png").write_bytes(b"no picture")
    (told,) = missing()
    assert "none of the images can be read" in told


@pytest.mark.parametrize("error", [OSError("404 for it"), httpx2.ConnectError("404 for it")])
def test_weights_that_are_neither_here_nor_on_the_hub_are_found(missing, monkeypatch, error):
    def refuse(self, source, **options):
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    (told,) = missing("models.student.source=nobody/nothing")
    assert "the Hub does not give it (404 for it)" in told


def test_a_key_that_nobody_reads_is_one_doubtful_finding(missing, tmp_path):
    found = doctor.examine(tmp_path / "run.yaml", ("supply.retrieve.k=3",))
    (told,) = [f for f in found if f.doubtful]
    assert told.found == "supply.retrieve.k: no effect, since supply.order is [annotate]"
    assert told.ok


def test_on_a_cluster_its_room_is_not_measured_by_this_machine(missing, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert missing("models.student.num_gpus=1") == []


def test_a_checkpoint_whose_processor_cannot_be_imported_is_found(missing, monkeypatch, tmp_path):
    (tmp_path / "qwen").mkdir()
    (tmp_path / "qwen" / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    (told,) = missing("models.student.source=./qwen")
    assert told == (
        "models.student.source: its processor needs torchvision, which is not installed; pip install 'dpe-ray[qwen]'"
    )
    monkeypatch.setattr(preflight, "find_spec", lambda name: name)
    assert missing("models.student.source=./qwen") == []
