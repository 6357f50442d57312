"""What the stages of a round ask for, and what is left to them of the budget."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dpe_ray.config import RunConfig
from dpe_ray.ports import CallBudget, ChatDoor, EmbedderDoor, PolicyUpdater, QuotaBook, RowMapper
from dpe_ray.rounds.ledger import prices, read_calls
from dpe_ray.rounds.record import Cost
from dpe_ray.rounds.spending import cost_by_role, left_of, limits_of, reached, spending
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.retrieve.shards import IndexParts, PartsHere
from dpe_ray.types import PolicyRef


@dataclass(frozen=True)
class Machine:
    """What the stages ask for, as one place offers it."""

    mapper: RowMapper
    door: Callable[[str, str, int], ChatDoor]
    """(role, journal stage, policy version) -> door; the role `student` is the policy that is trained."""
    embedder: Callable[[str], EmbedderDoor]
    """Entry of `models` -> door to its embeddings."""
    book: Callable[[dict[str, int], float, int, int], QuotaBook]
    """(quotas, slots per sample, teacher calls, those that a slot may take) -> a new book."""
    calls: CallBudget
    """What the doors of the teacher's roles keep to."""
    updater: PolicyUpdater
    publish: Callable[[PolicyRef], Awaitable[None]]
    """Serve this policy from now on."""
    parts: IndexParts = field(default_factory=PartsHere)
    """Where an index in parts lives."""


async def grant(calls: CallBudget, run: RunFolder, config: RunConfig, stage: str) -> int:
    """Bound the teacher by what the run has left of every limit; returns the calls that other stages leave to this one.

    These are 0 when the others left no tokens or no money. What the stage paid itself before it was interrupted is in
    its journal and costs nothing now.
    """
    paid, limits = read_calls(run.path / "journal"), limits_of(config.budget)
    spent = cost_by_role(paid, prices(config))
    await calls.allow({role: left_of(limit, spent.get(role, Cost())) for role, limit in limits.items()})
    others = cost_by_role(_of_others(paid, stage), prices(config))[""]
    left = left_of(limits[""], others)
    return 0 if left.spent else config.budget.teacher_calls - others.calls


def spent_limit(run: RunFolder, config: RunConfig, stage: str) -> str:
    """A limit of which the other stages left nothing, be it of one role, in words; empty when there is none."""
    return reached(spending(config, _of_others(read_calls(run.path / "journal"), stage)))


def _of_others(calls: Iterable[Mapping[str, Any]], stage: str) -> list[Mapping[str, Any]]:
    return [call for call in calls if not call["stage"].startswith(stage)]
