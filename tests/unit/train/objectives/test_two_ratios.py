"""new / old and old / rollout are two ratios: each does what it says, and neither stands in for the other."""

from dataclasses import replace

import pytest
import torch

from dpe_ray.train.objectives.engine_ratio import engine_correction
from dpe_ray.train.objectives.loss import TokenLogprobs, grpo_loss
from dpe_ray.train.settings import GrpoSettings

SETTINGS = GrpoSettings(kl=0.0)
ONE = torch.ones(1, 1, dtype=torch.float64)


def loss_and_gradient(new: float, old: float, rollout: float, settings: GrpoSettings) -> tuple[float, float]:
    """Of one good token, given the logarithms of the ratios' parts."""
    token = (ONE * new).requires_grad_()
    loss, _ = grpo_loss(TokenLogprobs(token, ONE * old, ONE * rollout), ONE[0], ONE, ONE[0], settings, denominator=1)
    (gradient,) = torch.autograd.grad(loss, token)
    return float(loss.detach()), float(gradient)


def test_engine_ratio_by_hand() -> None:
    old = torch.tensor([0.0, 0.0, 0.0])
    rollout = torch.tensor([0.5, -0.5, -1.0])  # ratios 0.61, 1.65, 2.72
    weights = {how: engine_correction(old, rollout, how, 2.0).weight.tolist() for how in ("truncate", "mask", "off")}
    assert weights["truncate"] == pytest.approx([0.60653, 1.64872, 2.0], rel=1e-4)
    assert weights["mask"] == pytest.approx([0.60653, 1.64872, 0.0], rel=1e-4)
    assert weights["off"] == [1.0, 1.0, 1.0]
    assert engine_correction(old, rollout, "mask", 2.0).gap.tolist() == [0.5, 0.5, 1.0]
    assert engine_correction(old, rollout, "off", 2.0).capped.tolist() == [False, False, True]


def test_a_gap_between_the_engines_weighs_a_token_and_does_not_clip_it() -> None:
    loss, gradient = loss_and_gradient(0.0, 0.0, -0.5, SETTINGS)  # old / rollout = 1.65, above 1 + clip_high
    assert (loss, gradient) == pytest.approx((-1.64872, -1.64872), rel=1e-5)


def test_a_step_of_the_policy_clips_a_token_whatever_the_engines_say() -> None:
    for rollout in (0.0, 0.5, -0.5):
        assert loss_and_gradient(0.5, 0.0, rollout, SETTINGS)[1] == 0.0
        assert loss_and_gradient(0.1, 0.0, rollout, SETTINGS)[1] != 0.0


def test_the_cap_is_that_of_the_engine_ratio_alone() -> None:
    wide = replace(SETTINGS, clip_high=9.0)
    assert loss_and_gradient(1.0, 0.0, 0.0, wide)[0] == pytest.approx(-2.71828, rel=1e-5)
    assert loss_and_gradient(0.0, 0.0, -1.0, wide)[0] == pytest.approx(-2.0, rel=1e-5)
    assert loss_and_gradient(0.0, 0.0, -1.0, replace(wide, rollout_ratio="mask")) == (0.0, 0.0)
    assert loss_and_gradient(0.0, 0.0, -1.0, replace(wide, rollout_ratio="off"))[0] == -1.0


def test_kl_is_not_weighted_by_the_engine_ratio() -> None:
    kl_only = replace(SETTINGS, kl=1.0, rollout_ratio="mask")
    logprobs = TokenLogprobs(ONE * 0, ONE * 0, ONE * -1.0, ONE * 0.5)
    loss, sums = grpo_loss(logprobs, ONE[0], ONE, ONE[0], kl_only, denominator=1)
    assert float(loss) == pytest.approx(float(sums["kl"])) == pytest.approx(0.14872, rel=1e-4)
