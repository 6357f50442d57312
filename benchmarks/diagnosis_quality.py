"""How close 200 probes come to a student's true weak places, and to the mixture that its weak places ask for.

    python benchmarks/diagnosis_quality.py [--students 1500] [--seed 0]

Simulated students: every cell has a share of the target distribution (lognormal(0, 1.2), or equal) and a true accuracy
(uniform). Truth of the mixture: share x (1 - accuracy). Rows:

- DPE: a random probe, raw accuracies, weights by tier (arXiv 2602.22859). A cell without a probe gets no weight and, to
  its favour, the accuracy of the whole. Beside it its tiers times the shares, which it does not know.
- interval rule on a tree, as in EvalTree (arXiv 2503.08893 and its code): the same random probe, cells in groups of
  three under one root; a node of 5 items or more is weak when its 95 % Clopper-Pearson interval lies below the whole's
  accuracy, and so do its children of 20 items or more, else its children are looked at. Weights by items under weak
  nodes; a cell of fewer than 5 items has the accuracy of its group. The rule names weak places and was not made to be a
  mixture; the truths know nothing of the groups.
- posterior: ours, on the same random probe; on an even one; and with a first half spread evenly, a second one sent by
  `second_batch`. It knows the shares: they are what the user wants the model for.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

from dpe_ray.diagnose.adaptive import second_batch
from dpe_ray.grading.posterior import Tally, estimate
from dpe_ray.plan.methods import Evidence, posterior, tiered
from dpe_ray.types import CellDiagnosis

PROBES = 200
CELLS = (12, 24)
TRUTHS = ((0.2, 0.9), (0.5, 0.95))
SHARES = ("lognormal", "equal")
DPE = "DPE: random, raw, tiers"
OURS = "posterior, second half adaptive"
TARGETS = {"accuracy": 0.65, "mixture": 0.5}
"""At most this much of DPE's error, with lognormal shares."""

Array = NDArray[Any]
Answer = tuple[Array, Array]
"""Accuracies and mixture weights, [cells]."""


def main() -> None:
    """Measure every setting, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = []
    for cells in CELLS:
        for truths in TRUTHS:
            for shares in SHARES:
                rows += setting(cells, truths, shares, args.students, np.random.default_rng(args.seed))
    header = tuple(rows[0])
    print(common.table(header, [[row[name] for name in header] for row in rows]))
    met = targets_met(rows)
    for name, worst in met.items():
        print(f"{name}: at worst {worst:.3f} of DPE's error with lognormal shares, wanted {TARGETS[name]}")
    print(f"wrote {common.write('diagnosis_quality', {'probes': PROBES, **vars(args), 'worst': met, 'rows': rows})}")


def setting(
    cells: int, truths: tuple[float, float], kind: str, students: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Mean errors of every method over simulated students; the same students for all."""
    errors: dict[str, list[tuple[float, float]]] = {}
    for _ in range(students):
        shares = normalised(rng.lognormal(0, 1.2, cells) if kind == "lognormal" else np.ones(cells))
        truth = rng.uniform(*truths, cells)
        for name, (accuracy, mixture) in answers(shares, truth, rng).items():
            errors.setdefault(name, []).append(errors_of(accuracy, mixture, shares, truth))
    means = {name: np.mean(values, axis=0) for name, values in errors.items()}
    return [
        {
            "cells": cells,
            "truths": f"U{truths}",
            "shares": kind,
            "method": name,
            "accuracy error": float(accuracy),
            "of DPE's": float(accuracy / means[DPE][0]),
            "mixture L1": float(mixture),
            "of tiers'": float(mixture / means[DPE][1]),
        }
        for name, (accuracy, mixture) in means.items()
    ]


def answers(shares: Array, truth: Array, rng: np.random.Generator) -> dict[str, Answer]:
    """What every method says about one student."""
    cells = len(shares)
    random = rng.multinomial(PROBES, shares)
    seen = rng.binomial(random, truth)
    even = np.full(cells, PROBES // cells) + (rng.permutation(cells) < PROBES % cells)
    half = np.full(cells, PROBES // 2 // cells) + (rng.permutation(cells) < PROBES // 2 % cells)
    first = rng.binomial(half, truth)
    names = _names(cells)
    counts = {name: (int(n), int(k)) for name, n, k in zip(names, half, first, strict=True)}
    taken = second_batch(
        counts, dict.fromkeys(names, PROBES), PROBES - PROBES // 2, dict(zip(names, shares, strict=True))
    )
    more = np.array([taken[name] for name in names])
    return {
        DPE: (raw(random, seen), by_tier(random, seen)),
        "tiers x share, the same probe": (raw(random, seen), normalised(shares * by_tier(random, seen))),
        "interval rule on a tree": interval_rule(random, seen),
        "posterior, the same probe": ours(random, seen, shares),
        "posterior, even probe": ours(even, rng.binomial(even, truth), shares),
        OURS: ours(half + more, first + rng.binomial(more, truth), shares),
    }


def raw(n: Array, correct: Array) -> Array:
    """Share of right answers; the whole's where nothing was asked."""
    return np.where(n > 0, correct / np.maximum(n, 1), correct.sum() / n.sum())


def by_tier(n: Array, correct: Array) -> Array:
    """DPE's weights."""
    return _weights(tiered(Evidence(_diagnosed(n, correct))))


def ours(n: Array, correct: Array, shares: Array) -> Answer:
    """Posterior means, and the mixture `posterior` without a floor."""
    cells = _diagnosed(n, correct)
    found = estimate([Tally(cell.category, cell.attempts, cell.correct) for cell in cells])
    target = {cell.category: float(share) for cell, share in zip(cells, shares, strict=True)}
    return np.array([e.mean for e in found]), _weights(posterior(Evidence(cells, target=target)))


def interval_rule(n: Array, correct: Array) -> Answer:
    """Weak nodes of the tree root - groups of three - cells, and raw accuracies."""
    groups = np.arange(len(n)).reshape(-1, 3)
    whole = correct.sum() / n.sum()

    def weak(members: Sequence[int]) -> bool:
        size = n[members].sum()
        return size >= 5 and proportion_confint(correct[members].sum(), size, 0.05, "beta")[1] < whole

    # the root's interval never lies below its own accuracy, so the walk begins at the groups
    taken: list[int] = []
    for group in groups:
        alone = [int(cell) for cell in group if weak([cell])]
        if weak(group) and all(cell in alone for cell in group if n[cell] >= 20):
            taken += [int(cell) for cell in group]
        else:
            taken += alone
    accuracy = np.where(n >= 5, raw(n, correct), np.repeat(raw(n[groups].sum(1), correct[groups].sum(1)), 3))
    mixture = np.zeros(len(n))
    mixture[taken] = n[taken]
    return accuracy, normalised(mixture if taken else n)


def errors_of(accuracy: Array, mixture: Array, shares: Array, truth: Array) -> tuple[float, float]:
    """Mean absolute error of the accuracies; L1 distance of the mixture to share x (1 - true accuracy), 0-2."""
    wanted = normalised(shares * (1 - truth))
    return float(np.abs(accuracy - truth).mean()), float(np.abs(mixture - wanted).sum())


def normalised(weights: Array) -> Array:
    """Scaled to sum 1."""
    return weights / weights.sum()


def targets_met(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The worst ratio of our method over the settings with lognormal shares."""
    kept = [row for row in rows if row["method"] == OURS and row["shares"] == "lognormal"]
    return {"accuracy": max(row["of DPE's"] for row in kept), "mixture": max(row["of tiers'"] for row in kept)}


def _names(cells: int) -> list[str]:
    return [f"c{i:02}" for i in range(cells)]


def _diagnosed(n: Array, correct: Array) -> list[CellDiagnosis]:
    counts = zip(_names(len(n)), n.tolist(), correct.tolist(), strict=True)
    return [CellDiagnosis(name, "all", asked, right, 0.0, 1.0, {}) for name, asked, right in counts]


def _weights(weights: Mapping[str, float]) -> Array:
    return normalised(np.array(list(weights.values())))


if __name__ == "__main__":
    main()
