"""A ChatModel at any OpenAI-compatible endpoint: bounded, retrying, journaled."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dpe_ray.errors import BadRequest, ModelUnavailable
from dpe_ray.models.call_budget import BoundedAsker
from dpe_ray.models.images import data_uri, read_bytes
from dpe_ray.models.journal import Call, Journal, JournaledChat
from dpe_ray.models.openai_client import EndpointSpec, RetryingClient
from dpe_ray.ports import CallBudget, ChatModel, ChatReply, ChatRequest, Message

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat.chat_completion import Choice


@dataclass(frozen=True)
class ChatSpec(EndpointSpec):
    """A ChatDoor: pickles, workers open their own client."""

    journal: str = ""
    """Folder of the journal; empty: nothing is recorded and nothing answered from records."""
    policy_version: int | None = None
    """Version the endpoint must serve, for a model that is trained; part of every journal key."""
    json_schema: bool = False
    """The endpoint can hold a reply to a JSON schema; where a request has one, it is sent."""
    budget: CallBudget | None = None
    """Bounds the calls that the journal cannot answer; None: nothing does."""

    def open(self) -> ChatModel:
        """Build the client, inside the process and event loop that will use it. Raises ConfigError without a key."""
        chat = OpenAIChat(self)
        if not self.journal:
            return chat
        inner = BoundedAsker(chat, self.budget, self.price) if self.budget else chat
        return JournaledChat(inner, Journal(self.journal, self.name), self.name, self.model, self.policy_version or 0)


class OpenAIChat:
    """The client of one endpoint."""

    def __init__(self, spec: ChatSpec) -> None:
        self._client = RetryingClient(spec)
        self._spec = spec

    async def chat(self, request: ChatRequest) -> ChatReply:
        """As `ChatModel.chat`, without a journal: `call` is empty."""
        return await self.ask(request, Call(role=request.role))

    async def ask(self, request: ChatRequest, call: Call) -> ChatReply:
        """As `chat`; counts attempts. Raises PoolError when an image cannot be read."""
        return await self._client.ask(partial(_payload, request, self._spec), partial(self._once, request), call)

    async def _once(self, request: ChatRequest, client: "AsyncOpenAI", payload: dict[str, Any]) -> ChatReply:
        from openai.types.chat import ChatCompletion

        # `chat.completions.create` first walks through all of the payload: a fifth of what a call costs this process
        reply = await client.post("/chat/completions", body=payload, cast_to=ChatCompletion)
        if not isinstance(reply, ChatCompletion) or not reply.choices:
            raise ModelUnavailable("the reply has not the OpenAI form")
        if len(reply.choices) != request.n:
            raise self._cannot(f"{len(reply.choices)} answers for n={request.n}; it does not support n")
        wanted, served = self._spec.policy_version, reply.system_fingerprint or ""
        if wanted is not None and served != f"v{wanted}":
            raise ModelUnavailable(f"it serves policy {served or 'unknown'}, v{wanted} is wanted")
        choices = sorted(reply.choices, key=lambda choice: choice.index)
        usage = reply.usage
        return ChatReply(
            tuple(choice.message.content or "" for choice in choices),
            f"{self._spec.model}@{served}" if served else self._spec.model,
            "",
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
            first_token=tuple(self._first_token(choice) for choice in choices) if request.top_logprobs else (),
        )

    def _first_token(self, choice: "Choice") -> tuple[tuple[str, float], ...]:
        """[k], likeliest first. Raises BadRequest when the endpoint left them out."""
        tokens = choice.logprobs.content if choice.logprobs else None
        if not tokens or not tokens[0].top_logprobs:
            raise self._cannot("a reply without top_logprobs; it does not support them")
        return tuple(sorted(((t.token, t.logprob) for t in tokens[0].top_logprobs), key=lambda pair: -pair[1]))

    def _cannot(self, what: str) -> BadRequest:
        return BadRequest(f"models.{self._spec.name}: {what}")


def _payload(request: ChatRequest, spec: ChatSpec) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "model": spec.model,
        "messages": [_turn(m) for m in request.messages],
        "n": request.n,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
    }
    if request.seed is not None:
        payload["seed"] = request.seed
    if request.top_logprobs:
        payload |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.reply_schema is not None and spec.json_schema:
        named = {"name": request.role, "schema": request.reply_schema}
        payload["response_format"] = {"type": "json_schema", "json_schema": named}
    return payload


def _turn(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_uri(read_bytes(image), image.media_type)}}
        for image in message.images
    ]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": message.text}]}
