"""What engine vllm cannot serve is said before anything is loaded."""

import pytest

from dpe_ray.config import parse_config
from dpe_ray.runtime import preflight, vllm_rules
from dpe_ray.runtime.preflight import look


@pytest.fixture
def tree(monkeypatch):
    monkeypatch.setattr(vllm_rules, "require_vllm", lambda: None)
    monkeypatch.setattr(vllm_rules, "distributions", lambda name: [])
    monkeypatch.setattr(preflight, "engine_names", lambda: ("oracle", "transformers", "vllm"))
    return {
        "name": "x",
        "models": {
            "student": {"source": "builtin:micro-student", "engine": "vllm"},
            "teacher": {"source": "builtin:oracle", "engine": "oracle"},
        },
        "pool": {"source": "builtin:micro-world"},
        "probe": {"source": "builtin:micro-probe"},
        "decision": {"suite": "builtin:micro-gate"},
        "train": {"tuning": "lora", "temperature": 1.0, "top_p": 1.0},
    }


def missing(tree):
    return [finding.found for finding in look(parse_config(tree, "test"), joined=False) if not finding.ok]


def test_a_run_that_vllm_can_serve_passes(tree):
    assert missing(tree) == []


@pytest.mark.parametrize(("options", "train", "message"), [
    ({"max_seqs": 4}, {}, "options.max_seqs: engine vllm has no such option"),
    ({"tensor_parallel_size": 2}, {}, "num_gpus: 0, and options.tensor_parallel_size is 2; set it to 2"),
    ({}, {"lora_rank": 32}, "train.lora_rank: 32, and options.max_lora_rank is 16; set it to 32"),
    ({"max_lora_rank": 0}, {}, "options.max_lora_rank is 0"),
    ({}, {"method": "sft", "sft": {"projector_lr": 2e-5}}, "train.sft.projector_lr"),
    ({}, {"method": "chain", "sft": {"projector_lr": 2e-5}}, "train.sft.projector_lr"),
    ({}, {"lora_targets": ["language", "tower"]}, "train.lora_targets: tower, and vLLM would leave it out"),
    ({}, {"lora_targets": ["projector"]}, "set options.enable_tower_connector_lora (Qwen's models)"),
    ({"sleep": True}, {"rollouts_ahead": 1}, "train.rollouts_ahead: 1 rolls out while it trains"),
    ({}, {"temperature": 0.7}, "temperature 0.7 needs options.logprobs_mode: processed_logprobs"),
    ({"logprobs_mode": "processed_logprobs"}, {"top_p": 0.99}, "top_p 0.99 needs options.logprobs_mode: raw_logprobs"),
])  # fmt: skip
def test_what_vllm_could_not_serve_is_one_line(tree, options, train, message):
    tree["models"]["student"]["options"] = options
    tree["train"] |= train
    [found] = missing(tree)
    assert message in found


def test_local_rollouts_have_the_one_gpu_of_their_worker(tree):
    tree["models"]["student"] |= {"num_gpus": 2, "options": {"tensor_parallel_size": 2}}
    assert missing(tree) == []
    tree["train"] |= {"rollouts": "local", "use_gpu": True}
    [found] = missing(tree)
    assert "options.tensor_parallel_size: 2, and with train.rollouts: local" in found


def test_an_adapter_on_the_tower_is_taken_where_vllm_applies_it(tree):
    tree["models"]["student"]["options"] = {"enable_tower_connector_lora": True}
    tree["train"]["lora_targets"] = ["language", "tower", "projector"]
    assert missing(tree) == []


@pytest.mark.parametrize("train", [
    {"tuning": "full", "lora_targets": ["tower"]},
    {"tuning": "full", "method": "sft", "sft": {"projector_lr": 2e-5}}, {"tuning": "full", "lora_rank": 128},
])  # fmt: skip
def test_whole_weights_may_hold_whatever_they_like(tree, train):
    tree["train"] |= train
    assert missing(tree) == []


def test_where_vllm_is_missing_the_extra_is_named(tree, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(preflight, "engine_names", lambda: ("oracle", "transformers", "vllm"))
    monkeypatch.setattr("dpe_ray.models.vllm_options.find_spec", lambda name: None)
    [found] = missing(tree)
    assert "pip install 'dpe-ray[gpu]'" in found


def test_the_build_for_gpus_is_not_started_without_one(tree, monkeypatch):
    monkeypatch.setattr(vllm_rules, "distributions", lambda name: [name])
    assert missing(tree) == ["num_gpus: 0, and the installed vLLM is the build for GPUs; set it to 1"]
    tree["models"]["student"]["num_gpus"] = 1
    assert missing(tree) == []
