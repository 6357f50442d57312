"""The rows of an annotation: slots on their way out, and how each one ended."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from dpe_ray.ports import QuotaState, Row
from dpe_ray.supply.stage import Outcome
from dpe_ray.types import Candidate, ImageRef, Rejection


@dataclass
class SlotRows:
    """The rows of a supply, one per slot until it is closed, and their results: unordered, some of them twice."""

    images: Iterator[ImageRef | Rejection | None]
    most: int
    sent: int = 0
    closed: bool = False
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        if self.closed or self.sent >= self.most:
            raise StopIteration
        row = {"slot": self.sent, "image": next(self.images)}
        self.sent += 1
        return row

    def __length_hint__(self) -> int:
        return self.most - self.sent

    @property
    def end(self) -> str:
        """What ended the rows when the book was still open."""
        return "slots" if self.sent == self.most else "pool"

    def take(self, row: Row) -> None:
        """Keep one result per slot; a sample counts more than the refusal of another run."""
        slot, outcome = row["slot"], row["outcome"]
        if slot not in self.outcomes or isinstance(outcome, Candidate):
            self.outcomes[slot] = outcome
        self.calls[slot] = max(row["calls"], self.calls.get(slot, 0))

    def all_of(self, state: QuotaState) -> bool:
        """Whether supply is over and all that ended is here: the book knows of slots before their rows arrive."""
        here = sum(isinstance(outcome, Candidate) for outcome in self.outcomes.values())
        return state.over and here >= sum(state.accepted.values()) and len(self.outcomes) >= state.ended
