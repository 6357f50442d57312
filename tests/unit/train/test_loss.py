"""The loss against numbers by hand and against a plain float64 loop."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dpe_ray.train.loss import ClipSettings, TokenLogprobs, grpo_loss, k3

PLAIN = ClipSettings(low=0.2, high=0.3, dual=3.0, kl=0.0)


def loss_of_ratio(ratio: float, advantage: float, clip: ClipSettings = PLAIN) -> float:
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64)
    zero = torch.zeros_like(new)
    one = torch.ones_like(new)
    loss, _ = grpo_loss(
        TokenLogprobs(new, zero, zero), torch.tensor([advantage], dtype=torch.float64), one, one[0], clip, denominator=1
    )
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


def test_k3_by_hand_and_its_clamp() -> None:
    new = torch.tensor([0.0, math.log(0.5), 0.0], dtype=torch.float64)
    reference = torch.tensor([0.0, math.log(0.25), 50.0], dtype=torch.float64)
    assert k3(new, reference).tolist() == pytest.approx([0.0, 0.5 - math.log(0.5) - 1, 10.0])


def plain_loss(
    new: list[list[float]],
    old: list[list[float]],
    rollout: list[list[float]],
    reference: list[list[float]],
    advantages: list[float],
    lengths: list[int],
    clip: ClipSettings,
) -> float:
    """The formula once more, token by token, in Python floats."""
    per_sequence = []
    for i, length in enumerate(lengths):
        terms = []
        for t in range(length):
            a, ratio = advantages[i], math.exp(new[i][t] - old[i][t])
            clipped = min(max(ratio, 1 - clip.low), 1 + clip.high)
            token = max(-a * ratio, -a * clipped)
            if a < 0:
                token = min(token, -a * clip.dual)
            token *= min(math.exp(old[i][t] - rollout[i][t]), clip.rollout_cap)
            d = reference[i][t] - new[i][t]
            terms.append(token + clip.kl * min(math.exp(d) - d - 1, 10.0))
        per_sequence.append(terms)
    if clip.loss_mean == "sequence":
        return sum(sum(terms) / len(terms) for terms in per_sequence) / len(lengths)
    return sum(map(sum, per_sequence)) / sum(lengths)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), loss_mean=st.sampled_from(["sequence", "token"]))
def test_loss_equals_a_plain_loop_over_tokens(seed: int, loss_mean: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (4,), generator=generator).tolist()

    def draw() -> Tensor:
        return torch.randn(4, 5, generator=generator, dtype=torch.float64) - 2

    new, old, rollout, reference = draw(), draw(), draw(), draw()
    advantages = torch.randn(4, generator=generator, dtype=torch.float64)
    mask = (torch.arange(5)[None, :] < torch.tensor(lengths)[:, None]).double()
    clip = replace(PLAIN, kl=0.05, loss_mean=loss_mean)
    denominator = 4 if loss_mean == "sequence" else sum(lengths)
    loss, sums = grpo_loss(
        TokenLogprobs(new, old, rollout, reference),
        advantages,
        mask,
        torch.ones(4, dtype=torch.float64),
        clip,
        denominator=denominator,
    )
    expected = plain_loss(
        new.tolist(), old.tolist(), rollout.tolist(), reference.tolist(), advantages.tolist(), lengths, clip
    )
    assert float(loss) == pytest.approx(expected, rel=1e-10)
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
        {"tokens": 5, "clipped": 2, "clipped_dual": 1, "truncated": 1, "gap": 1.5}
    )


def test_a_token_that_the_engine_thought_much_rarer_counts_at_most_twice() -> None:
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    rare = TokenLogprobs(zero, zero, torch.full((1, 1), -3.0))
    loss, _ = grpo_loss(rare, torch.ones(1), one, torch.ones(1), PLAIN, denominator=1)
    assert float(loss) == pytest.approx(-2.0)


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
