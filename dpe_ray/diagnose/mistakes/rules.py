"""Rules that point at a step, each a pure function; steps are 1-based, t = 0..n steps read.

`answer_switch` and the first two baselines are from arXiv 2412.15652; how `first_divergence` compares steps is our own,
as the paper does not say. The least-squares change point is ours.
"""

import re
from collections.abc import Sequence
from random import Random

import numpy as np

DELTA = 0.2
"""Margin by which the wrong option must lead, 0-1."""
PERSISTENCE = 2
"""Prefixes in a row on which it must (lambda)."""
LEAST_RISE = 0.1
"""Rise of the log-odds below which there is no jump at all."""
LEAST_SHARED = 0.5
"""Share of a step's words that a step of the teacher's must hold to say the same."""


def answer_switch(margins: Sequence[float], delta: float = DELTA, persistence: int = PERSISTENCE) -> int | None:
    """First t >= 1 with margin > delta for `persistence` prefixes in a row, the window cut at n; None if there is none.

    `margins` is [n + 1] P_t(wrong) - P_t(gold).
    """
    for t in range(1, len(margins)):
        if all(margin > delta for margin in margins[t : t + persistence]):
            return t
    return None


def largest_jump(log_odds: Sequence[float]) -> int | None:
    """Step with the largest rise of the log-odds of wrong over gold, the first of equals; None without a real rise."""
    rises = np.diff(log_odds)
    return int(np.argmax(rises)) + 1 if rises.size and rises.max() >= LEAST_RISE else None


def change_point(log_odds: Sequence[float]) -> int | None:
    """Step that splits the log-odds best into two levels by least squares, the later one higher; None if none rises."""
    z = np.asarray(log_odds, dtype=float)
    total, n = z.sum(), z.size
    before, left = np.cumsum(z)[:-1], np.arange(1, n)
    rise = (total - before) / (n - left) - before / left
    # the squared error falls by left * right / n * rise^2
    gain = np.where(rise >= LEAST_RISE, left * (n - left) * rise**2, -1.0)
    return int(np.argmax(gain)) + 1 if gain.size and gain.max() > 0 else None


def random_step(num_steps: int, seed: int) -> int:
    """Any step."""
    return Random(seed).randint(1, num_steps)


def first_wrong(wrong: Sequence[float]) -> int | None:
    """First step that is judged more likely wrong than right; `wrong` is [n], 0-1."""
    return next((t for t, p in enumerate(wrong, start=1) if p > 0.5), None)


def first_divergence(steps: Sequence[str], own: Sequence[str]) -> int | None:
    """First of the student's steps that no step of the teacher's rationale says too, by the words they share."""
    known = [_words(step) for step in own]
    for t, step in enumerate(steps, start=1):
        words = _words(step)
        if words and not any(len(words & said) >= LEAST_SHARED * len(words) for said in known):
            return t
    return None


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))
