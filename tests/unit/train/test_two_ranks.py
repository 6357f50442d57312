"""Two processes make the same update as one."""

from pathlib import Path

import torch
import torch.multiprocessing as mp
from train_support import make_groups

from dpe_ray.models.policy import load_policy
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.train.world import World, distributed_world
from dpe_ray.types import PolicyRef, RolloutGroup

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
