"""A budget of model calls, tokens and money, and the client that keeps to it.

The client sits below the journal: a call that was answered before is free, so a resumed stage replays all that it paid.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from dpe_ray.errors import BudgetExceeded, DpeError
from dpe_ray.models.journal import Asker, Call
from dpe_ray.models.price import Price
from dpe_ray.ports import CallBudget, ChatReply, ChatRequest, Limits, Taken

T = TypeVar("T")
_TASK_OF = {"observer": "judge", "image_edit": "image_editor"}
"""Requests under another name than the role of the configuration whose task they are."""


class Calls:
    """The plain `CallBudget`, unbounded at first. No method awaits anything, so none can be interrupted."""

    def __init__(self) -> None:
        self._left: dict[str, Limits] = {}
        self._allowance = 1
        self._refused = ""

    async def allow(self, limits: Mapping[str, Limits] | None) -> None:
        """As `CallBudget.allow`."""
        self._left = dict(limits or {})
        self._allowance += 1
        self._refused = ""

    async def take(self, role: str) -> Taken:
        """As `CallBudget.take`."""
        bounds = {name: self._left[name] for name in ("", role) if name in self._left}
        spent = (limit_key(name, left.spent) for name, left in bounds.items() if left.spent)
        self._refused = self._refused or next(spent, "")
        if not self._refused:
            self._use(role, calls=1)
        metered = any(left.tokens is not None or left.usd is not None for left in bounds.values())
        return Taken(self._allowance, self._refused, metered)

    async def give_back(self, role: str, allowance: int) -> None:
        """As `CallBudget.give_back`."""
        if allowance == self._allowance:
            self._use(role, calls=-1)
            self._refused = ""  # by a limit that has room again, or the next call is refused by the same

    async def spend(self, role: str, allowance: int, tokens: int, usd: float) -> None:
        """As `CallBudget.spend`."""
        if allowance == self._allowance:
            self._use(role, tokens=tokens, usd=usd)

    def _use(self, role: str, calls: int = 0, tokens: int = 0, usd: float = 0.0) -> None:
        for name in ("", role):
            if name in self._left:
                self._left[name] = self._left[name].less(calls, tokens, usd)


class BoundedAsker:
    """Asks only while the budget lasts."""

    def __init__(self, inner: Asker, budget: CallBudget, price: Price) -> None:
        self._inner, self._budget, self._price = inner, budget, price

    async def ask(self, request: ChatRequest, call: Call) -> ChatReply:
        """As `Asker.ask`. Raises BudgetExceeded."""
        images = sum(len(message.images) for message in request.messages)

        def took(reply: ChatReply) -> tuple[int, float]:
            usd = self._price.usd(reply.prompt_tokens, reply.completion_tokens, images)
            return reply.prompt_tokens + reply.completion_tokens, usd

        return await bounded(self._budget, paying_role(request.role), lambda: self._inner.ask(request, call), took)


async def bounded(
    budget: CallBudget, role: str, ask: Callable[[], Awaitable[T]], took: Callable[[T], tuple[int, float]]
) -> T:
    """One call of a role on the budget; retries are one, and a call without an answer is none. Raises BudgetExceeded.

    `took` says the tokens and US dollars of an answer.
    """
    taken = await budget.take(role)
    if taken.refused:
        raise BudgetExceeded(f"{taken.refused}: all that the run may spend is spent")
    try:
        answer = await ask()
    except DpeError:
        await budget.give_back(role, taken.allowance)
        raise
    if taken.metered:
        await budget.spend(role, taken.allowance, *took(answer))
    return answer


def paying_role(asked_as: str) -> str:
    """Role of the configuration that pays for a request, by the role that stands in the request."""
    return _TASK_OF.get(asked_as, asked_as)


def limit_key(role: str, amount: str) -> str:
    """Where the limit of `calls`, `tokens` or `usd` stands in a configuration; no role: of all together."""
    if role:
        return f"budget.roles.{role}.{amount}"
    return "budget.teacher_calls" if amount == "calls" else f"budget.{amount}"
