from pathlib import Path
from types import SimpleNamespace

import pytest

from dpe_ray.errors import TrainingError
from dpe_ray.models import local_rollouts
from dpe_ray.models.local_rollouts import LocalRolloutPool
from dpe_ray.types import PolicyRef

SAMPLED = {"group_size": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 3, "seed": 0}


def test_what_one_rank_publishes_the_others_roll_out_next(student, tmp_path, make_prompt):
    board = str(tmp_path / "made" / "published.json")
    first, second = (LocalRolloutPool(("transformers", student, {}), board) for _ in range(2))
    with pytest.raises(TrainingError, match="no published policy"):
        second.rollout([make_prompt("What?")], **SAMPLED)
    for version in (0, 100_001):
        first.publish(PolicyRef(student, version=version))
        for pool in (first, second):
            [group] = pool.rollout([make_prompt("What?")], **SAMPLED)
            assert group.policy_version == version
            assert len(group.rollouts) == 2


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
