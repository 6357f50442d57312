"""Where the engine of a training worker computes, on a node whose GPUs Ray Train shows to all of its workers."""

import os
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from dpe_ray.config import parse_config
from dpe_ray.models import local_rollouts
from dpe_ray.rounds.store import RunFolder
from dpe_ray.runtime import evolve, local_pool

TREE = {
    "name": "x",
    "models": {"student": {"source": "hub/id", "engine": "transformers", "num_gpus": 1}},
    "roles": {"default": "student"},
    "pool": {"source": "pool"},
    "probe": {"source": "builtin:micro-probe"},
    "decision": {"suite": "builtin:micro-gate"},
    "train": {"rollouts": "local", "workers": 2, "use_gpu": True},
}


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Opens the pool of a worker on a device, and gives what its engine was told and which GPUs it was shown."""

    def create(name, source, options):
        told.append((options.get("device"), os.environ.get("CUDA_VISIBLE_DEVICES")))
        return SimpleNamespace(rollout=None)

    def open_on(device, visible="4,5", **student):
        tree = {**TREE, "models": {"student": {**TREE["models"]["student"], **student}}}
        config = parse_config(tree, "test")
        open_pool = evolve._rollouts(config, RunFolder(tmp_path), config.models["student"], "app")
        monkeypatch.setattr(local_pool, "get_device", partial(torch.device, device))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        open_pool()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
        return told[-1]

    told = []
    monkeypatch.setattr(local_rollouts, "create_engine", create)
    return open_on


@pytest.mark.parametrize("options", [{}, {"device": "cuda"}])
def test_every_rank_of_a_node_rolls_out_on_its_own_gpu(opened, options):
    assert opened("cuda:0", options=options) == ("cuda:0", "4")
    assert opened("cuda:1", options=options) == ("cuda:1", "5")


def test_vllms_processes_see_the_gpu_of_their_rank_alone(opened):
    assert opened("cuda:1", engine="vllm") == (None, "5")
    assert opened("cuda:1", "GPU-aa,GPU-bb", engine="vllm") == (None, "GPU-bb")


def test_without_a_gpu_for_the_worker_the_engine_is_on_the_cpu_and_nothing_is_hidden(opened):
    assert opened("cpu") == ("cpu", "4,5")


def test_an_engine_that_is_told_to_stay_on_the_cpu_does(opened):
    assert opened("cuda:1", num_gpus=0, options={"device": "cpu"})[0] == "cpu"


def test_a_variable_that_was_not_set_is_not_set_afterwards(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with local_pool.shown_only("cuda:1"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
