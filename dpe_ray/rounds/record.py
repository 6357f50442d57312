"""What a round decided and measured, and how it stands in summary.json (the contract of the run directory)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dpe_ray.supply.supplier import Supplied, SupplierYield
from dpe_ray.types import Comparison, DataPlan, PolicyRef, SuiteScore, TrainResult

SCHEMA = 1
LONGEST_EXAMPLE = 200
"""Characters kept of a rejection's reason."""


@dataclass(frozen=True)
class Cost:
    """What model calls took; answers from the journal cost nothing."""

    calls: int = 0
    """Finished calls of all roles, the student's included."""
    teacher_calls: int = 0
    """Those that count against the budget: every role but the student's."""
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.calls + other.calls,
            self.teacher_calls + other.teacher_calls,
            self.tokens + other.tokens,
            self.usd + other.usd,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(
            self.calls - other.calls,
            self.teacher_calls - other.teacher_calls,
            self.tokens - other.tokens,
            max(0.0, self.usd - other.usd),  # sums of equal prices may differ in the last bit
        )


@dataclass(frozen=True)
class RoundRecord:
    """One closed round."""

    index: int
    """1-based."""
    start: PolicyRef
    """The policy the round began with."""
    kept: PolicyRef
    """The policy the next round begins with."""
    decision: str
    """accept, rollback or stop."""
    reasons: tuple[str, ...]
    quota: dict[str, int]
    proposed: int
    accepted: int
    rejected: dict[str, int]
    """By gate; proposed = accepted + all of these."""
    shortfall: dict[str, int]
    """Samples missing per cell; never padded."""
    closed_by: str = ""
    """What ended supply, as `Supplied.closed_by`."""
    suppliers: dict[str, SupplierYield] = field(default_factory=dict)
    """In the order in which they were asked; their `proposed` and `accepted` sum to those above."""
    train_steps: int = 0
    reward_first: float | None = None
    """Mean reward of the first tenth of the steps."""
    reward_last: float | None = None
    """Mean reward of the last tenth of the steps."""
    loss_first: float | None = None
    """Mean loss of the first tenth of the steps of supervised fine-tuning; None without any."""
    loss_last: float | None = None
    """Mean loss of the last tenth of them."""
    gate: SuiteScore | None = None
    """The candidate on the gate suite; None when nothing was trained."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds per stage."""
    cost: Cost = Cost()


def close_record(
    index: int,
    start: PolicyRef,
    plan: DataPlan,
    supplied: Supplied,
    trained: TrainResult | None = None,
    comparison: Comparison | None = None,
) -> RoundRecord:
    """A round's results as its record; without a comparison nothing was trained, and the loop stops."""
    metrics = trained.metrics if trained else ()
    reward_first, reward_last = _ends([m["reward"] for m in metrics if "reward" in m])
    loss_first, loss_last = _ends(sft_losses(metrics))
    decision, kept = "stop", start
    reasons: tuple[str, ...] = (nothing_accepted(supplied),)
    if trained and comparison:
        decision, reasons = comparison.decision, comparison.reasons
        kept = start if decision == "rollback" else trained.policy
    return RoundRecord(
        index=index,
        start=start,
        kept=kept,
        decision=decision,
        reasons=reasons,
        quota=plan.quotas,
        proposed=supplied.proposed,
        accepted=len(supplied.samples),
        rejected=dict(sorted(Counter(r.gate for r in supplied.rejections).items())),
        shortfall=supplied.shortfall,
        closed_by=supplied.closed_by,
        suppliers=supplied.by_supplier,
        train_steps=trained.steps if trained else 0,
        reward_first=reward_first,
        reward_last=reward_last,
        loss_first=loss_first,
        loss_last=loss_last,
        gate=comparison.after if comparison else None,
    )


def nothing_accepted(supplied: Supplied) -> str:
    """Why a round ended without a sample, in one line: the largest rejection with its count and its first reason."""
    closed = f"{supplied.closed_by} closed supply"
    if not supplied.rejections:
        return f"no sample was accepted, so nothing was trained; {closed}"
    gate, count = Counter(r.gate for r in supplied.rejections).most_common(1)[0]
    example = " ".join(next(r.reason for r in supplied.rejections if r.gate == gate).split())[:LONGEST_EXAMPLE]
    return (
        f"no sample was accepted, so nothing was trained: {count} of {supplied.proposed} slots were rejected as {gate} "
        f"(the first: {example}); {closed}"
    )


def stopped_record(index: int, policy: PolicyRef, reason: str) -> RoundRecord:
    """The record of a round that could not begin or go on: the policy stays, and no round follows."""
    return RoundRecord(
        index=index,
        start=policy,
        kept=policy,
        decision="stop",
        reasons=(reason,),
        quota={},
        proposed=0,
        accepted=0,
        rejected={},
        shortfall={},
    )


def sft_losses(metrics: Sequence[Mapping[str, float]]) -> list[float]:
    """The loss of every step of supervised fine-tuning; steps of GRPO, which have a reward, are left out."""
    return [m["loss"] for m in metrics if "loss" in m and "reward" not in m]


def _ends(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Means of the first and of the last tenth."""
    if not values:
        return None, None
    tenth = max(1, len(values) // 10)
    return sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth


def summary(
    status: str,
    records: Sequence[RoundRecord],
    base: SuiteScore | None,
    final: SuiteScore | None,
    final_cost: Cost = Cost(),
    cost: Cost = Cost(),
    budget: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """The tree of summary.json; `status` is running, complete or failed. `cost` is that of all calls so far.

    `budget` says of every limit that is set what is `spent` and what is `allowed`.
    """
    return {
        "schema": SCHEMA,
        "status": status,
        "error": "",
        "base": _score(base),
        "final": _score(final),
        "rounds": [_round(record) for record in records],
        "final_cost": cost_entry(final_cost),
        "cost": cost_entry(cost),
        "budget": dict(budget),
    }


def _round(record: RoundRecord) -> dict[str, Any]:
    loss = {} if record.loss_first is None else {"loss_first": record.loss_first, "loss_last": record.loss_last}
    return {
        "index": record.index,
        "decision": record.decision,
        "reasons": list(record.reasons),
        "gate": _score(record.gate),
        "proposed": record.proposed,
        "accepted": record.accepted,
        "rejected": record.rejected,
        "quota": record.quota,
        "shortfall": record.shortfall,
        "closed_by": record.closed_by,
        "suppliers": {name: asdict(part) for name, part in record.suppliers.items()},
        "train": {
            "steps": record.train_steps,
            "reward_first": record.reward_first,
            "reward_last": record.reward_last,
            **loss,
        },
        "seconds": {stage: round(seconds, 2) for stage, seconds in record.seconds.items()},
        "cost": cost_entry(record.cost),
    }


def cost_entry(cost: Cost) -> dict[str, Any]:
    """As it stands in summary.json."""
    return {
        "calls": cost.calls,
        "teacher_calls": cost.teacher_calls,
        "tokens": cost.tokens,
        "usd": round(cost.usd, 6),
    }


def _score(score: SuiteScore | None) -> dict[str, Any] | None:
    if score is None:
        return None
    return {
        "n": score.n,
        "macro": score.macro,
        "by_category": {name: asdict(part) for name, part in score.by_category.items()},
        "by_suite": {name: asdict(part) for name, part in score.by_suite.items()},
        "not_judged": score.not_judged,
    }
