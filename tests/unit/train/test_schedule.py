"""Learning rates over the updates of a training, and going on in the middle of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from train_support import make_groups

from dpe_ray.train.loop import trainable
from dpe_ray.train.schedule import Schedule
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import PolicyRef

SETTINGS = GrpoSettings(lora_rank=4, lr=1e-2, kl=0.0, micro_batch=8, steps=5, updates_per_step=2)


def optimizer_of(*rates: float) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates])


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        # two updates of warm-up; eight are left, and the curves would end behind the last
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("cosine", [0.5, 1, 1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060]),
    ],
)
def test_a_rate_rises_and_then_follows_its_curve(kind: str, rates: list[float]) -> None:
    optimizer = optimizer_of(3.0, 1.0)
    schedule = Schedule(optimizer, kind, warmup=0.2, updates=10)
    seen = []
    for _ in range(10):
        assert schedule.rate == optimizer.param_groups[0]["lr"] == pytest.approx(3 * optimizer.param_groups[1]["lr"])
        seen.append(schedule.rate / 3)
        schedule.advance()
    assert seen == pytest.approx(rates, abs=1e-6)


def test_a_training_of_one_update_has_its_whole_rate() -> None:
    assert Schedule(optimizer_of(3.0), "cosine", warmup=0.03, updates=1).rate == 3.0


def trainer_of(student: PolicyRef, settings: GrpoSettings) -> GrpoTrainer:
    return GrpoTrainer(trainable(student, settings, 0), settings)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_a_round_follows_it_and_goes_on_exactly(student: PolicyRef, kind: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, schedule=kind, warmup=0.2)
    straight, groups = trainer_of(student, settings), make_groups(student, tmp_path)
    rates = [straight.step(groups)["learning_rate"] for _ in range(3)]
    file = tmp_path / "state.pt"
    torch.save(straight.state(), file)
    resumed = trainer_of(student, settings)
    resumed.load_state(torch.load(file, weights_only=True))
    ours, theirs = ([trainer.step(groups) for _ in range(2)] for trainer in (resumed, straight))
    assert ours == theirs
    assert all(torch.equal(weight, resumed.backend.weights[n]) for n, weight in straight.backend.weights.items())
    rates += [step["learning_rate"] for step in ours]
    # of the first update of each step: two a step, two of ten to warm up
    wanted = {
        "constant": [0.5, 1, 1, 1, 1],
        "linear": [0.5, 1, 0.75, 0.5, 0.25],
        "cosine": [0.5, 1, 0.853553, 0.5, 0.146447],
    }
    assert rates == pytest.approx([1e-2 * factor for factor in wanted[kind]], abs=1e-8)


def test_updates_that_nothing_is_left_of_count_as_made(student: PolicyRef, tmp_path: Path) -> None:
    trainer = trainer_of(student, replace(SETTINGS, schedule="linear"))
    groups = make_groups(student, tmp_path)
    even = [replace(g, rollouts=tuple(replace(rollout, reward=1.0) for rollout in g.rollouts)) for g in groups]
    assert trainer.step(even)["groups_dropped"] == 3
    trainer.step(even)
    assert trainer.step(groups)["learning_rate"] == pytest.approx(0.6e-2)
