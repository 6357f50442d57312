"""What the stages of a round ask for, and the calls that are left to them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dpe_ray.ports import CallBudget, ChatDoor, EmbedderDoor, PolicyUpdater, QuotaBook, RowMapper
from dpe_ray.rounds.ledger import cost, read_calls
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
    book: Callable[[dict[str, int], float, int], QuotaBook]
    """(quotas, slots per sample, teacher calls) -> a new book."""
    calls: CallBudget
    """What the doors of the teacher's roles keep to."""
    updater: PolicyUpdater
    publish: Callable[[PolicyRef], Awaitable[None]]
    """Serve this policy from now on."""
    parts: IndexParts = field(default_factory=PartsHere)
    """Where an index in parts lives."""


async def grant(calls: CallBudget, run: RunFolder, allowed: int, stage: str) -> int:
    """Bound the teacher's calls by what the run has left; returns what the other stages leave to this one.

    The two differ by what this stage paid before it was interrupted: that is in its journal and costs nothing now.
    """
    paid = read_calls(run.path / "journal")
    used, here = cost(paid, {}).teacher_calls, cost(paid, {}, stage).teacher_calls
    await calls.allow(max(0, allowed - used))
    return allowed - (used - here)
