"""Did it help, did it hurt: two policies on the same items, and whether the new one is kept."""

from collections.abc import Mapping, Sequence

from dpe_ray.config import DecisionConfig
from dpe_ray.errors import ModelUnavailable, PoolError
from dpe_ray.evaluate.paired import Estimate, Pair, estimate, holm, macro_estimate
from dpe_ray.evaluate.score import score
from dpe_ray.types import CategoryChange, Comparison, Graded


def compare(before: Sequence[Graded], after: Sequence[Graded], config: DecisionConfig) -> Comparison:
    """Pair the items of the gate suite that both policies were judged on, and decide.

    `rollback` when the macro change is not superior (its interval reaches 0), when a category fell for certain, or,
    with `guard: proven`, when one is not shown to be non-inferior; else `accept`, and the reasons name every category
    in which a fall beyond the margin could not be excluded. Raises PoolError when the two answered different items,
    ModelUnavailable when no item was judged under both.
    """
    pairs = pair_up(before, after)
    macro = macro_estimate(pairs)
    low, high = macro.interval(config.confidence)
    changes = category_changes(pairs, config)
    reasons = _against(macro.mean, low, high, changes, config)
    lost = {g.sample.category for g in before} - pairs.keys()
    reasons += [f"{name}: no item was judged under both policies." for name in sorted(lost)]
    decision = "rollback" if reasons else "accept"
    if decision == "accept":
        reasons = [f"macro rose by {macro.mean:+.3f} ({config.confidence:.0%} interval {low:+.3f} to {high:+.3f})."]
    suite_of = {g.sample.id: config.suite for g in before}
    return Comparison(
        before=score(before, suite_of),
        after=score(after, suite_of),
        macro_change=macro.mean,
        macro_low=low,
        macro_high=high,
        by_category=changes,
        decision=decision,
        reasons=(*reasons, *_unproven(changes, config)),
    )


def pair_up(before: Sequence[Graded], after: Sequence[Graded]) -> dict[str, list[Pair]]:
    """Pairs by category, in alphabetical order, of the items that both policies were judged on."""
    first, second = ({g.sample.id: g for g in graded} for graded in (before, after))
    if first.keys() != second.keys():
        raise PoolError(
            f"the policies answered different items ({len(first.keys() ^ second.keys())} in one only); "
            "measure both on the same suite"
        )
    pairs: dict[str, list[Pair]] = {}
    for id_, old in first.items():
        new = second[id_]
        if old.verdict.judged and new.verdict.judged:
            cluster = "+".join(image.sha256 for image in old.sample.images) or id_
            change = int(new.verdict.correct) - int(old.verdict.correct)
            pairs.setdefault(old.sample.category, []).append(Pair(cluster, change))
    if not pairs:
        raise ModelUnavailable("no item was judged under both policies; check the endpoints, then resume the run")
    return dict(sorted(pairs.items()))


def category_changes(pairs: Mapping[str, Sequence[Pair]], config: DecisionConfig) -> dict[str, CategoryChange]:
    """Per category: interval, and both one-sided p Holm-adjusted over the categories."""
    estimates = {name: estimate(members) for name, members in pairs.items()}
    alpha = 1 - config.confidence
    falls = holm([e.p_below(0.0) for e in estimates.values()])
    inferior = holm([e.p_above(-config.margin) for e in estimates.values()])
    return {
        name: _change(len(pairs[name]), e, fall, worse, config.confidence, alpha / len(estimates))
        for (name, e), fall, worse in zip(estimates.items(), falls, inferior, strict=True)
    }


def _change(n: int, e: Estimate, p_fall: float, p_inferior: float, confidence: float, alpha: float) -> CategoryChange:
    low, high = e.interval(confidence)
    return CategoryChange(n, e.mean, low, high, p_fall, p_inferior, e.detectable_drop(alpha))


def _against(
    macro: float, low: float, high: float, changes: Mapping[str, CategoryChange], config: DecisionConfig
) -> list[str]:
    """Everything that speaks against the new policy, one sentence each."""
    alpha = 1 - config.confidence
    reasons = []
    if low <= 0:
        interval = f"{config.confidence:.0%} interval {low:+.3f} to {high:+.3f}"
        reasons.append(f"macro is not superior: {macro:+.3f} ({interval}).")
    for name, c in changes.items():
        if c.p_fall < alpha:
            reasons.append(f"{name} fell for certain: {c.change:+.3f} on {c.n} items (p {c.p_fall:.3g}).")
        elif config.guard == "proven" and c.p_inferior >= alpha:
            reasons.append(f"{name} is not proven to have fallen by less than {config.margin}: {c.change:+.3f}.")
    return reasons


def _unproven(changes: Mapping[str, CategoryChange], config: DecisionConfig) -> list[str]:
    """Categories in which a fall beyond the margin is not excluded, with what their items could have shown."""
    return [
        f"{name}: a fall beyond {config.margin} is not excluded ({c.change:+.3f} on {c.n} items); "
        f"the smallest drop that could have been seen is {c.detectable_drop:.3f}."
        for name, c in changes.items()
        if c.p_inferior >= 1 - config.confidence
    ]
