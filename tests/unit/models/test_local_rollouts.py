from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dpe_ray.errors import TrainingError
from dpe_ray.models import local_rollouts
from dpe_ray.models.local_rollouts import LocalRolloutPool
from dpe_ray.models.policy import load_policy, save_policy
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.types import PolicyRef

SAMPLED = {"group_size": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 3, "seed": 0}


@pytest.fixture(scope="module")
def adapter(student, tmp_path_factory):
    """Another policy than the student alone."""
    adapted = load_policy(PolicyRef(student), trainable="lora")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    folder = tmp_path_factory.mktemp("adapter")
    save_policy(adapted.model, adapted.processor, folder)
    return str(folder)


def test_what_one_rank_publishes_the_others_roll_out_next(student, adapter, tmp_path, make_prompt):
    board = str(tmp_path / "made" / "published.json")
    first, second = (LocalRolloutPool(("transformers", student, {}), board) for _ in range(2))
    with pytest.raises(TrainingError, match="no published policy"):
        second.rollout([make_prompt("What?")], **SAMPLED)
    written = []
    for policy in (PolicyRef(student), PolicyRef(student, adapter, version=100_001)):
        first.publish(policy)
        one, other = (pool.rollout([make_prompt("What?")], **SAMPLED)[0] for pool in (first, second))
        assert one.policy_version == other.policy_version == policy.version
        assert len(one.rollouts) == 2
        assert one.rollouts == other.rollouts
        written.append(one.rollouts)
    assert written[0] != written[1]
    plain = TransformersEngine(student, {})
    plain.load_policy(PolicyRef(student, adapter, version=1))
    assert plain.rollout([make_prompt("What?")], **SAMPLED)[0].rollouts == written[1]


def test_an_engine_that_gives_no_rollouts_is_refused(tmp_path):
    truth = tmp_path / "truth.jsonl"
    truth.write_text("")
    with pytest.raises(TrainingError, match="engine oracle gives none"):
        LocalRolloutPool(("oracle", str(truth), {}), str(tmp_path / "published.json"))


def test_a_board_that_cannot_be_read_is_one_line(student, tmp_path):
    board = Path(tmp_path / "published.json")
    board.write_text("{")
    with pytest.raises(TrainingError, match="no published policy") as caught:
        LocalRolloutPool(("transformers", student, {}), str(board)).rollout([], **SAMPLED)
    assert "\n" not in str(caught.value)


def test_an_engine_that_can_gives_its_gpu_back_before_the_trainer_loads(tmp_path, monkeypatch):
    told = []
    engine = SimpleNamespace(rollout=None, doze=lambda: told.append("doze"))
    monkeypatch.setattr(local_rollouts, "create_engine", lambda *_: engine)
    LocalRolloutPool(("vllm", "hub/id", {"sleep": True}), str(tmp_path / "published.json"))
    assert told == ["doze"]
