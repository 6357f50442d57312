"""The loss against numbers by hand and against a plain float64 loop."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_objective import plain_loss
from torch import Tensor

from dpe_ray.train.objectives.loss import TokenLogprobs, grpo_loss
from dpe_ray.train.objectives.mean import denominator
from dpe_ray.train.settings import GrpoSettings

PLAIN = GrpoSettings(clip_low=0.2, clip_high=0.3, clip_dual=3.0, kl=0.0, max_tokens=5)
CHOICES = st.builds(
    GrpoSettings,
    clip_dual=st.sampled_from([None, 3.0]),
    kl=st.sampled_from([0.0, 0.05]),
    kl_estimator=st.sampled_from(["k1", "k2", "k3"]),
    kl_importance=st.booleans(),
    importance_sampling_level=st.sampled_from(["token", "sequence"]),
    rollout_ratio=st.sampled_from(["truncate", "mask", "off"]),
    loss_mean=st.sampled_from(["sequence", "token", "constant"]),
    max_tokens=st.just(5),
)


def loss_of_ratio(ratio: float, advantage: float, chosen: GrpoSettings = PLAIN) -> float:
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64)
    zero = torch.zeros_like(new)
    one = torch.ones_like(new)
    advantages = torch.tensor([advantage], dtype=torch.float64)
    loss, _ = grpo_loss(TokenLogprobs(new, zero, zero), advantages, one, one[0], chosen, denominator=1)
    return float(loss)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (1.1, 1.0, -1.1),  # inside the bounds: the plain policy gradient
        (1.5, 1.0, -1.3),  # upper clip, wider than the lower one
        (0.5, 1.0, -0.5),  # a good token that became rarer is not clipped
        (0.5, -1.0, 0.8),  # lower clip
        (2.0, -1.0, 2.0),  # a bad token that became likelier is not clipped ...
        (5.0, -1.0, 3.0),  # ... up to the dual clip
        (5.0, -2.0, 6.0),
    ],
)
def test_clip_of_one_token_by_hand(ratio: float, advantage: float, loss: float) -> None:
    assert loss_of_ratio(ratio, advantage) == pytest.approx(loss, rel=1e-12)


def test_without_the_dual_clip_a_bad_token_costs_what_its_ratio_says() -> None:
    assert loss_of_ratio(5.0, -1.0, replace(PLAIN, clip_dual=None)) == pytest.approx(5.0, rel=1e-12)


def test_ratio_of_a_sequence_is_the_geometric_mean_of_its_tokens() -> None:
    new = torch.tensor([[math.log(1.1), math.log(1.3), 7.0]], dtype=torch.float64)
    zero, mask = torch.zeros_like(new), torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    chosen = replace(PLAIN, importance_sampling_level="sequence")
    loss, _ = grpo_loss(
        TokenLogprobs(new, zero, zero), torch.ones(1).double(), mask, torch.ones(1).double(), chosen, denominator=1
    )
    assert float(loss) == pytest.approx(-math.sqrt(1.1 * 1.3), rel=1e-12)


@settings(max_examples=120)
@given(seed=st.integers(0, 10_000), chosen=CHOICES)
def test_loss_and_gradient_equal_a_plain_loop_over_tokens(seed: int, chosen: GrpoSettings) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (4,), generator=generator).tolist()

    def draw() -> Tensor:
        return torch.randn(4, 5, generator=generator, dtype=torch.float64) - 2

    new, old, rollout, reference = draw().requires_grad_(), draw(), draw(), draw()
    advantages = torch.randn(4, generator=generator, dtype=torch.float64)
    mask = (torch.arange(5)[None, :] < torch.tensor(lengths)[:, None]).double()
    loss, sums = grpo_loss(
        TokenLogprobs(new, old, rollout, reference),
        advantages,
        mask,
        torch.ones(4, dtype=torch.float64),
        chosen,
        denominator=denominator(chosen.loss_mean, 4, sum(lengths), chosen.max_tokens),
    )
    expected = plain_loss(new, old, rollout, reference, advantages.tolist(), lengths, chosen)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-10)
    (gradient,) = torch.autograd.grad(loss, new)
    (wanted,) = torch.autograd.grad(expected, new)
    assert float((gradient - wanted).norm()) <= 1e-10 * float(wanted.norm())
    assert float(sums["tokens"]) == sum(lengths)


def test_statistics_count_what_was_clipped_and_truncated() -> None:
    ratios = torch.tensor([[1.0, 1.5, 5.0], [0.5, 5.0, 1.0]])
    zero = torch.zeros(2, 3)
    rollout = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.5]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    _, sums = grpo_loss(
        TokenLogprobs(ratios.log(), zero, rollout), torch.tensor([1.0, -1.0]), mask, torch.ones(2), PLAIN, denominator=2
    )
    assert {name: float(value) for name, value in sums.items()} == pytest.approx(
        {"tokens": 5, "clipped_low": 1, "clipped_high": 1, "clipped_dual": 1, "truncated": 1, "gap": 1.5}
    )


def test_gradient_reaches_completion_tokens_of_weighted_sequences_only() -> None:
    new = torch.zeros(2, 3, requires_grad=True)
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    zero = torch.zeros(2, 3)
    loss, _ = grpo_loss(
        TokenLogprobs(new, zero, zero, zero - 1),
        torch.ones(2),
        mask,
        torch.tensor([1.0, 0.0]),
        replace(PLAIN, kl=0.1),
        denominator=1,
    )
    loss.backward()
    assert new.grad is not None
    assert (new.grad != 0).tolist() == [[True, True, False], [False, False, False]]
