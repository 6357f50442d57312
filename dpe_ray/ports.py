"""What a stage may ask of the machine. `runtime` answers on Ray, `rounds.local` with plain asyncio.

Rows that cross `RowMapper` are plain dicts with picklable values: the only place where row dicts exist.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dpe_ray.types import Completion, ImageRef, PolicyRef, Prompt, Rejection, RolloutGroup, Sample, TrainResult

Row = dict[str, Any]
MAX_TOP_LOGPROBS = 20
"""As OpenAI's API."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    """system, user or assistant."""
    text: str
    images: tuple[ImageRef, ...] = ()
    """Placed before the text."""


@dataclass(frozen=True)
class ChatRequest:
    """One model call. Equal requests have equal journal keys."""

    messages: tuple[Message, ...]
    role: str
    """Who asks: a role of the configuration, or student."""
    item: str
    """Id of the sample, image or place it is about."""
    prompt_version: str
    """`name@version` of the prompt file."""
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    top_logprobs: int = 0
    """Alternatives wanted for the first token, 0-20."""
    reply_schema: Mapping[str, Any] | None = field(default=None, compare=False)
    """JSON schema of the reply, for endpoints that can hold to one. No part of the journal key: the prompt asks for the
    same form."""


@dataclass(frozen=True)
class ChatReply:
    """What came back."""

    texts: tuple[str, ...]
    """[n]"""
    model: str
    """Model name and, behind `@`, the policy version when the endpoint states one."""
    call: str
    """Key in the journal."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: bool = False
    """True when the journal answered and nobody was asked."""
    first_token: tuple[tuple[tuple[str, float], ...], ...] = ()
    """[n][k] (token text, natural log-probability) of the first token's alternatives, likeliest first; empty unless
    asked for."""


class ChatModel(Protocol):
    """A door to a model behind an OpenAI-compatible endpoint."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer once. Raises ModelUnavailable after all retries, BadRequest when refused, BudgetExceeded."""
        ...


class ChatDoor(Protocol):
    """A picklable description of a ChatModel: clients do not pickle, so workers open their own."""

    def open(self) -> ChatModel:
        """Build the client, inside the process and event loop that will use it."""
        ...


class Embedder(Protocol):
    """A door to a model that turns texts into vectors."""

    async def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """[N][D] vectors of length 1, in the order of the texts. Raises ModelUnavailable, BadRequest."""
        ...


class EmbedderDoor(Protocol):
    """A picklable description of an Embedder; workers open their own."""

    def open(self) -> Embedder:
        """Build the client, inside the process and event loop that will use it."""
        ...


class Engine(Protocol):
    """A model that this run serves. One replica of a Serve app owns one engine; `models.engines` finds it by name."""

    async def chat(self, request: "EngineRequest") -> Sequence[Completion]:
        """[n] completions. Raises BadRequest for parameters it does not support."""
        ...

    def load_policy(self, policy: PolicyRef) -> int:
        """Swap in another policy without a restart; returns the version now served."""
        ...

    @property
    def version(self) -> int:
        """Policy version served; 0 when the engine has none."""
        ...


@dataclass(frozen=True)
class EngineRequest:
    """A decoded request: images as bytes, sampling parameters checked."""

    messages: tuple[tuple[str, str, tuple[bytes, ...]], ...]
    """(role, text, encoded images) per turn."""
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    logprobs: bool = False
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    """Alternatives wanted per token, 0-20."""
    reply_schema: dict[str, Any] | None = None
    """JSON schema that every reply must meet; `{"type": "object"}` for any object; None: free text."""


class ImageKeeper(Protocol):
    """Where new images are kept."""

    def put(self, data: bytes, origin: str = "pool", licence: str = "", source: str = "") -> ImageRef:
        """Store encoded bytes by content. Raises PoolError when they are no image, StoreError."""
        ...


class ImageSearch(Protocol):
    """Finds images for words."""

    async def search(self, query: str, count: int, page: int = 0) -> list[ImageRef | Rejection]:
        """Up to `count` results, best first; a Rejection (slot 0) stands for one that cannot be used.

        A later page goes on behind the one before it, and behind the last page again with the first. Raises ConfigError
        when there is nothing to search in, ModelUnavailable when whoever is asked does not answer.
        """
        ...


@dataclass(frozen=True)
class MapSpec:
    """A per-row async function, as an importable factory and its frozen config: clients do not pickle."""

    factory: Callable[..., Any]
    """Module-level; called once inside each worker as factory(config), returns `async (row) -> row`."""
    config: Any
    """Frozen and picklable."""
    workers: tuple[int, int] = (1, 2)
    """Least and most workers."""
    concurrency: int = 16
    """Rows in flight per worker."""
    name: str = "map"
    labels: dict[str, float] = field(default_factory=dict)
    """Custom resources a worker needs, such as {"annotation": 0.01}; empty on one machine."""


class RowMapper(Protocol):
    """Maps rows with an async function, somewhere."""

    def map(self, spec: MapSpec, rows: Iterable[Row]) -> AsyncIterator[Row]:
        """Yield results as they finish: unordered, at least once; key by id. Closing the iterator stops the work."""
        ...


class RolloutPool(Protocol):
    """Samples groups of rollouts from the policy that is being trained."""

    def rollout(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
    ) -> list[RolloutGroup]:
        """One group per prompt, in the order of the prompts, rewards still 0, all under one policy version."""
        ...

    def publish(self, policy: PolicyRef) -> None:
        """Make later rollouts come from `policy`; raises a DpeError when an engine did not take it."""
        ...


class PolicyUpdater(Protocol):
    """Fine-tunes a policy on samples."""

    async def finetune(self, policy: PolicyRef, samples: Sequence[Sample], *, out: str, seed: int) -> TrainResult:
        """Train from `policy`, leave a Hugging Face or PEFT directory at `out`."""
        ...


@dataclass(frozen=True)
class Limits:
    """What may be spent; None: any amount."""

    calls: int | None = None
    tokens: int | None = None
    """Of prompts and completions together."""
    usd: float | None = None

    @property
    def spent(self) -> str:
        """Name of the first amount of which nothing is left; empty while there is some of each."""
        amounts = {"calls": self.calls, "tokens": self.tokens, "usd": self.usd}
        return next((name for name, left in amounts.items() if left is not None and left <= 0), "")

    def less(self, calls: int, tokens: int, usd: float) -> "Limits":
        """What is left after these, below 0 where more was spent."""
        return Limits(
            None if self.calls is None else self.calls - calls,
            None if self.tokens is None else self.tokens - tokens,
            None if self.usd is None else self.usd - usd,
        )


@dataclass(frozen=True)
class Taken:
    """Leave to make a call, or why there is none."""

    allowance: int
    """Number of the allowance that it is taken from."""
    refused: str = ""
    """Key in the configuration of the limit that is spent."""
    metered: bool = False
    """Whether a limit wants to be told what the answer took."""


class CallBudget(Protocol):
    """What teacher calls may still be made, by role: one count for all workers of a run.

    Only calls that reach an endpoint are counted; what a journal answers was paid before. Tokens and money are known
    with the answer, so their limits are overshot by the calls that are under way when they are reached.
    """

    async def allow(self, limits: Mapping[str, Limits] | None) -> None:
        """From now on at most this much more by role, '' for all of them together, beside the calls under way.

        None: any amount. Begins a new allowance.
        """
        ...

    async def take(self, role: str) -> Taken:
        """Ask before a call. Once a limit refused one, every role is refused until there is room again.

        A stage that has lost one role would pay the others for work that it cannot finish.
        """
        ...

    async def give_back(self, role: str, allowance: int) -> None:
        """A call that was taken from this allowance got no answer. A later allowance never counted it."""
        ...

    async def spend(self, role: str, allowance: int, tokens: int, usd: float) -> None:
        """What the answer to a metered call took. A later allowance does not count it."""
        ...


@dataclass(frozen=True)
class QuotaState:
    """Where a supply stage stands."""

    quotas: dict[str, int]
    accepted: dict[str, int]
    """Committed samples per cell."""
    slots: dict[str, int]
    """Reservations per cell so far, whatever became of them."""
    in_flight: dict[str, int]
    """Reservations per cell that are under way."""
    spent: dict[str, int]
    """Teacher calls per cell that finished slots with a reservation there cost."""
    ended: int
    """Slots that committed or were released."""
    calls: int
    """Teacher calls that finished slots cost."""
    closed_by: str
    """Empty while a cell is open; then quota (all full), exhausted or budget."""
    over: bool
    """Nothing is open, and no slot in flight could still be committed."""


@dataclass(frozen=True)
class Place:
    """What a slot that begins with a cell is to fill."""

    cell: str
    number: int
    """Among the places that the cell ever had in this run, from 0: two slots of a cell are to look elsewhere."""


class SlotBook(Protocol):
    """What a slot asks, and where it tells how it ended.

    Rows are delivered at least once, so everything is keyed by slot: one that runs again is told what it was told
    before, which lets the journal answer it, and what it committed stays.
    """

    async def begin(self, slot: int) -> tuple[str, ...]:
        """Cells that are neither full nor exhausted; none when supply is closed. A rerun is offered the same.

        A slot that was shown a cell is in flight until it commits or is released.
        """
        ...

    async def reserve(self, cell: str, slot: int) -> bool:
        """Ask for a place before costly work, one per slot. False when the cell is full or exhausted."""
        ...

    async def assign(self, slot: int) -> Place | None:
        """`begin` and `reserve` in one: the open cell with the least (accepted + in flight) / quota, or None.

        A slot that `restore` knows gets the place that it had, or None when its cell is closed by now.
        """
        ...

    async def commit(self, slot: int, key: str, calls: int) -> str:
        """A sample passed where its slot had reserved; `key` tells equal samples, `calls` is what the slot cost.

        Gives the gate that refuses it, `quota` (the cell is already full) or `duplicate`, or nothing.
        """
        ...

    async def release(self, slot: int, calls: int) -> None:
        """A slot gave no sample, whether or not it had reserved."""
        ...

    async def close(self) -> None:
        """No call could be made for a slot that began: the budget is spent, whatever the slots report."""
        ...

    async def state(self) -> QuotaState:
        """A snapshot."""
        ...


class QuotaBook(SlotBook, Protocol):
    """The one owner of the quotas of a supply stage: nobody else counts."""

    async def restore(self, places: Mapping[int, Place], numbers: Mapping[str, int]) -> None:
        """Before the first slot: what slots were assigned before an interruption, and the first free number by cell."""
        ...
