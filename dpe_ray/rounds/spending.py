"""What a run may spend and what it has spent: by role, from the journal, and by limit, for people."""

from collections.abc import Iterable, Mapping
from typing import Any

from dpe_ray.config import BudgetConfig, RunConfig
from dpe_ray.models.call_budget import limit_key, paying_role
from dpe_ray.models.price import Price
from dpe_ray.ports import Limits
from dpe_ray.rounds.ledger import STUDENT, TOOLS, cost, prices
from dpe_ray.rounds.record import Cost

Spending = dict[str, dict[str, float]]
"""Key of a limit, without the leading `budget.` -> what is `spent` and what is `allowed`; limits that are set alone."""
_UNITS = {"teacher_calls": "teacher calls", "calls": "calls", "tokens": "tokens", "usd": "US$"}


def limits_of(budget: BudgetConfig) -> dict[str, Limits]:
    """What may be spent in the whole run, by role; `""` for all teacher roles together."""
    roles = {role: Limits(**limits.model_dump()) for role, limits in budget.roles.items()}
    return {"": Limits(budget.teacher_calls, budget.tokens, budget.usd), **roles}


def cost_by_role(calls: Iterable[Mapping[str, Any]], prices: Mapping[str, Price]) -> dict[str, Cost]:
    """What the teacher's roles that were asked have cost; `""` for all of them together."""
    asked: dict[str, list[Mapping[str, Any]]] = {"": []}
    for call in calls:
        if call["role"] not in (STUDENT, *TOOLS):
            asked[""].append(call)
            asked.setdefault(paying_role(call["role"]), []).append(call)
    return {role: cost(some, prices) for role, some in asked.items()}


def left_of(limits: Limits, spent: Cost) -> Limits:
    """What is left of them."""
    return limits.less(spent.calls, spent.tokens, spent.usd)


def spending(config: RunConfig, calls: Iterable[Mapping[str, Any]]) -> Spending:
    """Of every limit that is set, as it stands in summary.json."""
    costs, found = cost_by_role(calls, prices(config)), Spending()
    for role, limits in limits_of(config.budget).items():
        spent = costs.get(role, Cost())
        amounts = {"calls": spent.calls, "tokens": spent.tokens, "usd": round(spent.usd, 6)}
        for amount, value in amounts.items():
            if (allowed := getattr(limits, amount)) is not None:
                key = limit_key(role, amount).removeprefix("budget.")
                found[key] = {"spent": value, "allowed": allowed}
    return found


def reached(spending: Spending) -> str:
    """The first limit of which nothing is left, in words; empty while there is something of each."""
    spent = (key for key, amount in spending.items() if amount["spent"] >= amount["allowed"])
    return next((f"budget.{key}: {_amounts(key, spending[key])} are spent" for key in spent), "")


def in_words(spending: Spending) -> list[str]:
    """Each limit in words, such as `validator: 40 of 5,000 calls`."""
    roles = [key.split(".")[1:-1] for key in spending]
    return [": ".join([*role, _amounts(*limit)]) for role, limit in zip(roles, spending.items(), strict=True)]


def _amounts(key: str, amount: Mapping[str, float]) -> str:
    name = key.rpartition(".")[2]
    form = ",.2f" if name == "usd" else ",d"
    return f"{amount['spent']:{form}} of {amount['allowed']:{form}} {_UNITS[name]}"
