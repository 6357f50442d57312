"""The OpenAI form of requests and replies, as the endpoints of this run speak it. An unknown parameter is refused."""

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dpe_ray.errors import BadRequest
from dpe_ray.models.images import from_data_uri
from dpe_ray.ports import EngineRequest
from dpe_ray.types import Completion

Neutral = Literal[0] | None
DEFAULT_MAX_TOKENS = 512


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(_Body):
    """Text of a turn."""

    type: Literal["text"]
    text: str


class ImageUrl(_Body):
    """A data URI; nothing is fetched from elsewhere."""

    url: str
    detail: Literal["auto"] = "auto"


class ImagePart(_Body):
    """An image of a turn; images stand before the text, whatever the order of the parts."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Turn(_Body):
    """One message."""

    role: Literal["system", "user", "assistant"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class PlainText(_Body):
    """The only form of replies that engines know."""

    type: Literal["text"]


class ChatBody(_Body):
    """`POST /v1/chat/completions`. Parameters without effect here are accepted with their neutral value only."""

    model: str
    messages: Annotated[list[Turn], Field(min_length=1)]
    n: Annotated[int, Field(ge=1)] = 1
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    stream: Literal[False] | None = None
    user: str | None = None
    response_format: PlainText | None = None
    top_logprobs: Neutral = None
    frequency_penalty: Neutral = None
    presence_penalty: Neutral = None


def read_body(data: object, model: str) -> EngineRequest:
    """Check a decoded JSON body sent to `model`. Raises BadRequest that names the parameter, PoolError for an image."""
    try:
        body = ChatBody.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "body"
        what = "this endpoint does not support it" if first["type"] == "extra_forbidden" else first["msg"]
        raise BadRequest(f"{key}: {what}") from error
    if body.model != model:
        raise BadRequest(f"model: this endpoint serves {model!r}, not {body.model!r}")
    limit = body.max_completion_tokens or body.max_tokens or DEFAULT_MAX_TOKENS
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return EngineRequest(
        tuple(_turn(turn) for turn in body.messages),
        body.n,
        body.temperature,
        body.top_p,
        limit,
        body.seed,
        bool(body.logprobs),
        stop,
    )


def reply_body(completions: Sequence[Completion], model: str, version: int, logprobs: bool) -> dict[str, Any]:
    """A `chat.completion`; the policy version is its system_fingerprint, as `v3`."""
    prompt = completions[0].prompt_tokens if completions else 0
    written = sum(len(c.token_ids) or len(c.text.split()) for c in completions)  # words where an engine has no tokens
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": f"v{version}",
        "choices": [_choice(index, completion, logprobs) for index, completion in enumerate(completions)],
        "usage": {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written},
    }


def error_body(message: str, kind: str) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    param, colon, _ = message.partition(":")
    named = param if colon and param.replace("_", "").replace(".", "").isalnum() else None
    return {"error": {"message": message, "type": kind, "param": named, "code": None}}


def models_body(model: str) -> dict[str, Any]:
    """`GET /v1/models`."""
    return {"object": "list", "data": [{"id": model, "object": "model", "created": 0, "owned_by": "dpe-ray"}]}


def _turn(turn: Turn) -> tuple[str, str, tuple[bytes, ...]]:
    if isinstance(turn.content, str):
        return turn.role, turn.content, ()
    text = "\n".join(part.text for part in turn.content if isinstance(part, TextPart))
    return turn.role, text, tuple(_images(turn.content))


def _images(parts: Sequence[TextPart | ImagePart]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, ImagePart):
            yield from_data_uri(part.image_url.url)


def _choice(index: int, completion: Completion, logprobs: bool) -> dict[str, Any]:
    tokens: list[dict[str, Any]] = [
        {"token": f"token_id:{token}", "logprob": value, "bytes": None, "top_logprobs": []}
        for token, value in zip(completion.token_ids, completion.logprobs, strict=True)
    ]
    return {
        "index": index,
        "message": {"role": "assistant", "content": completion.text},
        "finish_reason": "stop" if completion.finished else "length",
        "logprobs": {"content": tokens} if logprobs else None,
    }
