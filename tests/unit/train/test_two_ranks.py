"""Two processes make the same update as one."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.multiprocessing as mp
from train_support import LocalPool, make_groups, make_prompts

from dpe_ray.models.policy import load_policy
from dpe_ray.train.settings import GrpoSettings, SftSettings
from dpe_ray.train.sft_loop import train as train_sft
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.train.world import World, distributed_world
from dpe_ray.types import PolicyRef, RolloutGroup, TrainResult

SETTINGS = GrpoSettings(tuning="full", lr=1e-3, kl=0.02, micro_batch=4, drop_equal_groups=True)


def updated(student: PolicyRef, groups: list[RolloutGroup], world: World) -> dict[str, object]:
    """Weights and metrics after two steps on this rank's share."""
    trainer = GrpoTrainer(load_policy(student, trainable="full"), SETTINGS, world)
    share = groups[world.rank :: world.size]
    metrics = [trainer.step(share) for _ in range(2)][-1]
    return {"weights": trainer.state()["weights"], "metrics": metrics}


def on_rank(rank: int, folder: Path, student: PolicyRef) -> None:
    """One of two processes: two groups on rank 0, one on rank 1, so that rank 1 idles in the last forward pass."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    result = updated(student, make_groups(student, folder / f"rank{rank}"), distributed_world())
    torch.save(result, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_equal_one_process_on_three_groups(student: PolicyRef, tmp_path: Path) -> None:
    mp.spawn(on_rank, (tmp_path, student), nprocs=2)
    alone = updated(student, make_groups(student, tmp_path / "alone"), World())
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, weight in alone["weights"].items():  # type: ignore[attr-defined]
        assert torch.equal(ranks[0]["weights"][name], ranks[1]["weights"][name])
        assert torch.allclose(ranks[0]["weights"][name], weight, atol=2e-5), name
    for name, value in alone["metrics"].items():  # type: ignore[attr-defined]
        assert abs(ranks[0]["metrics"][name] - value) < 1e-4, name


def fine_tuned(student: PolicyRef, pictures: Path, out: Path, world: World) -> TrainResult:
    """Updates of three and two prompts, one a pass, so that rank 1 idles; the policy is asked for rationales."""
    settings = SftSettings(
        lora_rank=4, lora_alpha=8, lr=1e-3, batch_size=3, micro_batch=1, rationale_share=0.8, group_size=2, max_tokens=4
    )
    prompts = [*make_prompts(pictures, 3), *make_prompts(pictures, 5, "1. how many red")[3:]]
    return train_sft(student, prompts, LocalPool(student), settings, out=str(out), seed=0, world=world)


def fine_tune_on_rank(rank: int, folder: Path, student: PolicyRef) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    result = fine_tuned(student, folder / f"rank{rank}", folder / "out", distributed_world())
    torch.save(list(result.metrics), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_fine_tune_like_one_process(student: PolicyRef, tmp_path: Path) -> None:
    mp.spawn(fine_tune_on_rank, (tmp_path, student), nprocs=2)
    alone = fine_tuned(student, tmp_path / "alone", tmp_path / "one", World())
    weights = load_policy(alone.policy).model.state_dict()
    together = load_policy(replace(alone.policy, adapter=str(tmp_path / "out"))).model.state_dict()
    assert all(torch.allclose(together[name], weight, atol=2e-5) for name, weight in weights.items())
    for rank in range(2):
        for ours, theirs in zip(torch.load(tmp_path / f"{rank}.pt", weights_only=True), alone.metrics, strict=True):
            for name in ("loss", "mean_token_accuracy", "learning_rate", "grad_norm", "num_tokens", "rationale_share"):
                assert abs(ours[name] - theirs[name]) < 1e-4, name
