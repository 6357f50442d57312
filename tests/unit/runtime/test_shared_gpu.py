"""One GPU for trainer and engine: it can be configured, and each makes room for the other."""

import pickle
from functools import partial
from types import SimpleNamespace

import pytest
import ray
import torch
from ray.exceptions import RayActorError

from dpe_ray.config import parse_config
from dpe_ray.errors import ClusterError, ConfigError
from dpe_ray.rounds.store import RunFolder
from dpe_ray.runtime import evolve, preflight, session, shared_gpu, train_job, vllm_rules
from dpe_ray.runtime.rollout_pool import ServeRolloutPool
from dpe_ray.runtime.shared_gpu import SharedGpuPool
from dpe_ray.runtime.train_job import RayPolicyUpdater, method_settings
from dpe_ray.types import PolicyRef

SAMPLED = {"group_size": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 3, "seed": 0}
STUDENT = {"source": "builtin:micro-student", "engine": "vllm", "num_gpus": 0.5, "options": {"sleep": True}}
TREE = {
    "name": "x",
    "models": {"student": STUDENT, "teacher": {"source": "builtin:oracle", "engine": "oracle"}},
    "roles": {"default": "teacher"},
    "pool": {"source": "builtin:micro-world"},
    "probe": {"source": "builtin:micro-probe"},
    "decision": {"suite": "builtin:micro-gate"},
    "train": {"tuning": "lora", "use_gpu": True, "num_gpus": 0.5},
}


def config(**train):
    return parse_config({**TREE, "train": {**TREE["train"], **train}}, "test")


@pytest.fixture
def diary(monkeypatch):
    """What the GPU sees: who gives memory back when."""

    def handle(app):
        def broadcast(method):
            told.append(f"{app}: {method}")
            return SimpleNamespace(results=lambda *, return_exceptions: [])

        return SimpleNamespace(broadcast=broadcast)

    told = []
    monkeypatch.setattr(shared_gpu.serve, "get_app_handle", handle)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: told.append("empty_cache"))
    return told


def test_a_cluster_with_one_gpu_holds_trainer_and_engine_and_doctor_misses_nothing(monkeypatch):
    monkeypatch.setattr(vllm_rules, "require_vllm", lambda: None)
    monkeypatch.setattr(vllm_rules, "distributions", lambda name: [name])  # the build for GPUs
    monkeypatch.setattr(preflight, "engine_names", lambda: ("oracle", "transformers", "vllm"))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 1.0})
    preflight.require(config(), joined=False)
    asked = session.asked_by(config())
    session.require(asked)
    assert session.total(asked)[1] == 1
    with pytest.raises(ClusterError, match=r"asks for 1\.5 GPUs"):
        session.require(session.asked_by(config(num_gpus=1)))


@pytest.mark.parametrize(("train", "resources"), [
    ({"use_gpu": True, "num_gpus": 0.5}, {"CPU": 1.0, "GPU": 0.5}), ({"use_gpu": True}, {"CPU": 1.0, "GPU": 1.0}),
    ({"use_gpu": False, "num_gpus": 0.5}, {"CPU": 1.0}),
])  # fmt: skip
def test_a_training_worker_asks_ray_for_its_share(monkeypatch, tmp_path, train, resources):
    def trainer(*_, scaling_config, **__):
        asked.append(scaling_config.resources_per_worker)
        return SimpleNamespace(fit=lambda: SimpleNamespace(return_value=None))

    asked = []
    monkeypatch.setattr(train_job, "TorchTrainer", trainer)
    whole = {"num_gpus": 1.0, **train}
    settings = method_settings(config().train)
    RayPolicyUpdater(settings, list, str(tmp_path), use_gpu=whole["use_gpu"], num_gpus=whole["num_gpus"])._fit(None)
    assert asked == [resources]


def test_two_workers_cannot_share_gpus():
    with pytest.raises(ConfigError, match=r"num_gpus: 0\.5 shares a GPU, which one worker can; set workers: 1"):
        config(workers=2)
    with pytest.raises(ConfigError, match=r"train\.num_gpus"):
        config(num_gpus=0)


def test_the_engine_sleeps_before_a_trainer_loads_and_torchs_cache_is_emptied_before_the_engine_wakes(diary):
    inner = SimpleNamespace(
        rollout=lambda prompts, **sampled: diary.append(("rollout", prompts, sampled)),
        publish=lambda policy: diary.append(("publish", policy)),
    )
    policy = PolicyRef("base", version=1)
    pool = SharedGpuPool(lambda: diary.append("open") or inner, "student-app")
    pool.publish(policy)
    pool.rollout(["prompt"], **SAMPLED)
    opened, published, rolled = ["open", "student-app: doze"], ("publish", policy), ("rollout", ["prompt"], SAMPLED)
    assert diary == [*opened, "empty_cache", published, "empty_cache", rolled]


@pytest.mark.parametrize(("train", "student", "makes_room"), [
    ({}, {}, True), ({"num_gpus": 1}, {}, True), ({}, {"options": {}}, True),
    ({"num_gpus": 1}, {"options": {}}, False), ({"use_gpu": False}, {}, False),
])  # fmt: skip
def test_workers_make_room_where_a_gpu_is_shared_and_nowhere_else(tmp_path, train, student, makes_room):
    run = config(**train)
    model = run.models["student"].model_copy(update=student)
    open_pool = evolve._rollouts(run, RunFolder(tmp_path), model, "app")
    pickle.dumps(open_pool)
    assert open_pool.func is (SharedGpuPool if makes_room else ServeRolloutPool)


def test_engines_that_cannot_be_told_to_sleep_are_a_cluster_error(monkeypatch):
    def broken(app):
        raise RayActorError(error_msg="the replica died")

    monkeypatch.setattr(shared_gpu.serve, "get_app_handle", broken)
    with pytest.raises(ClusterError, match="app student: its engines keep their GPUs"):
        SharedGpuPool(partial(dict), "student")
