"""A budget of model calls, and the client that keeps to it.

The client sits below the journal: a call that was answered before is free, so a resumed stage replays all that it paid.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from dpe_ray.errors import BudgetExceeded, DpeError
from dpe_ray.models.journal import Asker, Call
from dpe_ray.ports import CallBudget, ChatReply, ChatRequest

T = TypeVar("T")


class Calls:
    """The plain `CallBudget`, unbounded at first. No method awaits anything, so none can be interrupted."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._allowance = 1

    async def allow(self, calls: int | None) -> None:
        """As `CallBudget.allow`."""
        self._left = calls
        self._allowance += 1

    async def take(self) -> int:
        """As `CallBudget.take`."""
        if self._left is not None:
            if self._left <= 0:
                return 0
            self._left -= 1
        return self._allowance

    async def give_back(self, allowance: int) -> None:
        """As `CallBudget.give_back`."""
        if self._left is not None and allowance == self._allowance:
            self._left += 1


class BoundedAsker:
    """Asks only while the budget lasts."""

    def __init__(self, inner: Asker, budget: CallBudget) -> None:
        self._inner, self._budget = inner, budget

    async def ask(self, request: ChatRequest, call: Call) -> ChatReply:
        """As `Asker.ask`. Raises BudgetExceeded."""
        return await bounded(self._budget, lambda: self._inner.ask(request, call))


async def bounded(budget: CallBudget, ask: Callable[[], Awaitable[T]]) -> T:
    """One call on the budget; retries are one, and a call without an answer is none. Raises BudgetExceeded."""
    if not (allowance := await budget.take()):
        raise BudgetExceeded("budget.teacher_calls: all calls that the run may make are spent")
    try:
        return await ask()
    except DpeError:
        await budget.give_back(allowance)
        raise
