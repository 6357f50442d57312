"""KL estimators by hand, and on average against the KL itself."""

import math

import pytest
import torch

from dpe_ray.train.objectives.kl import ESTIMATORS, k1, k2, k3

NEW = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
REFERENCE = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
DIVERGENCE = float((NEW * (NEW / REFERENCE).log()).sum())


def mean_of(name: str) -> float:
    return float((NEW * ESTIMATORS[name](NEW.log(), REFERENCE.log())).sum())


def test_estimators_by_hand_and_the_limit_of_k3() -> None:
    new = torch.tensor([0.0, math.log(0.5), 0.0], dtype=torch.float64)
    reference = torch.tensor([0.0, math.log(0.25), 50.0], dtype=torch.float64)
    assert k3(new, reference).tolist() == pytest.approx([0.0, 0.5 - math.log(0.5) - 1, 10.0])
    assert k1(new, reference).tolist() == pytest.approx([0.0, math.log(2), -50.0])
    assert k2(new, reference).tolist() == pytest.approx([0.0, math.log(2) ** 2 / 2, 1250.0])


def test_k1_and_k3_have_the_kl_as_their_mean_and_k2_is_near_it() -> None:
    assert mean_of("k1") == pytest.approx(DIVERGENCE, rel=1e-12)
    assert mean_of("k3") == pytest.approx(DIVERGENCE, rel=1e-12)
    assert mean_of("k2") == pytest.approx(DIVERGENCE, rel=0.1)


@pytest.mark.parametrize(("name", "importance", "right"), [
    ("k1", False, False), ("k2", False, True), ("k3", False, False), ("k1", True, True), ("k3", True, True),
])  # fmt: skip
def test_which_estimators_have_the_gradient_of_the_kl(name: str, importance: bool, right: bool) -> None:
    """Mean over all tokens, drawn from `old` = `new`."""
    logits = NEW.log().requires_grad_()
    new = logits.log_softmax(-1)
    ratio = (new - new.detach()).exp() if importance else torch.ones(3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((NEW * ratio * ESTIMATORS[name](new, REFERENCE.log())).sum(), logits)
    exact = logits.log_softmax(-1)
    (wanted,) = torch.autograd.grad((exact.exp() * (exact - REFERENCE.log())).sum(), logits)
    assert torch.allclose(gradient, wanted, atol=1e-12) is right
