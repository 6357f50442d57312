"""Requests in OpenAI's form, as the endpoints of this run read them. An unknown parameter is refused.

JSON and types are pydantic's to check: it reads no more than 200 levels deep and converts nothing, so whatever a body
holds is read or refused, and never breaks the endpoint.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dpe_ray.errors import BadRequest
from dpe_ray.models.images import from_data_uri
from dpe_ray.ports import MAX_TOP_LOGPROBS, EngineRequest

Neutral = Literal[0] | None
Stop = Annotated[str, Field(min_length=1)]
DEFAULT_MAX_TOKENS = 512
MAX_TEXTS = 2048
"""Per call of embeddings, as OpenAI's API."""
MAX_BODY_BYTES = 64 * 2**20
"""Of a request: one image of `images.MAX_BYTES` in base64, and as much again beside it."""
MAX_IMAGES = 32
"""Per request, whether they come in it or are fetched."""
MAX_PARTS = 1024
"""Turns of a conversation, and parts of a turn."""
MAX_CHOICES = 256
"""What a batch of the transformers engine holds; OpenAI's API stops at 128."""
MAX_TOKENS = 2**20
"""Beyond every context: an engine that checks none still comes to an end."""
_TOLD = 200


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Body):
    """Text of a turn."""

    type: Literal["text"]
    text: str


class ImageUrl(_Body):
    """A data URI, or a URL that the endpoint may fetch."""

    url: str
    detail: Literal["auto"] = "auto"


class ImagePart(_Body):
    """An image of a turn; images stand before the text, whatever the order of the parts."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Turn(_Body):
    """One message."""

    role: Literal["system", "user", "assistant"]
    content: (
        str | Annotated[list[Annotated[TextPart | ImagePart, Field(discriminator="type")]], Field(max_length=MAX_PARTS)]
    )


class PlainText(_Body):
    """Free text."""

    type: Literal["text"]


class JsonObject(_Body):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(_Body):
    """A JSON schema; replies meet it whether `strict` is asked for or not."""

    name: str
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class JsonSchema(_Body):
    """JSON of a certain form."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class StreamOptions(_Body):
    """What a stream tells besides."""

    include_usage: bool = False


class ChatBody(_Body):
    """`POST /v1/chat/completions`. Parameters without effect here are accepted with their neutral value only."""

    model: str
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MAX_PARTS)]
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    response_format: Annotated[PlainText | JsonObject | JsonSchema, Field(discriminator="type")] | None = None
    frequency_penalty: Neutral = None
    presence_penalty: Neutral = None

    def images(self) -> list[str]:
        """Data URIs and URLs, in order."""
        parts = [part for turn in self.messages if not isinstance(turn.content, str) for part in turn.content]
        return [part.image_url.url for part in parts if isinstance(part, ImagePart)]

    def image_urls(self) -> list[str]:
        """URLs that are no data URIs, in order."""
        return [url for url in self.images() if not url.startswith("data:")]


class EmbeddingBody(_Body):
    """`POST /v1/embeddings`."""

    model: str
    input: Stop | Annotated[list[Stop], Field(min_length=1, max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        """What to embed, in order."""
        return [self.input] if isinstance(self.input, str) else self.input


Body = TypeVar("Body", ChatBody, EmbeddingBody)


def read_chat(body: bytes, model: str) -> ChatBody:
    """Read a JSON body sent to `model`. Raises BadRequest, one sentence that begins with the parameter."""
    read = _read(ChatBody, body, model)
    if read.top_logprobs is not None and not read.logprobs:
        raise BadRequest("top_logprobs: needs logprobs: true")
    if read.stream_options and not read.stream:
        raise BadRequest("stream_options: needs stream: true")
    if (count := len(read.images())) > MAX_IMAGES:
        raise BadRequest(f"messages: {count} images are more than {MAX_IMAGES}; send fewer")
    return read


def read_embedding(body: bytes, model: str) -> EmbeddingBody:
    """As `read_chat`."""
    return _read(EmbeddingBody, body, model)


def engine_request(body: ChatBody, fetched: Mapping[str, bytes]) -> EngineRequest:
    """Decode what was checked; `fetched` holds the bytes of `body.image_urls()`. Raises PoolError for a data URI."""
    return EngineRequest(
        tuple(_turn(turn, fetched) for turn in body.messages),
        body.n,
        body.temperature,
        body.top_p,
        body.max_completion_tokens or body.max_tokens or DEFAULT_MAX_TOKENS,
        body.seed,
        bool(body.logprobs),
        (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        body.top_logprobs or 0,
        _schema(body.response_format),
    )


def _read(kind: type[Body], body: bytes, model: str) -> Body:
    try:
        read = kind.model_validate_json(body)
    except ValidationError as error:
        raise BadRequest(_told(error)) from error
    if read.model != model:
        raise BadRequest(f"model: this endpoint serves {model!r}, not {read.model[:_TOLD]!r}")
    return read


def _told(error: ValidationError) -> str:
    """The first of what is wrong. Names come from the body: they are cut, and stay on one line."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"body: is no JSON ({first['ctx']['error']})"
    key = " ".join(".".join(str(part)[:_TOLD] for part in first["loc"]).split()) or "body"
    why = "this endpoint does not support it" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{key}: {' '.join(why.split())[:_TOLD]}"


def _schema(form: PlainText | JsonObject | JsonSchema | None) -> dict[str, Any] | None:
    if isinstance(form, JsonSchema):
        return form.json_schema.schema_
    return {"type": "object"} if isinstance(form, JsonObject) else None


def _turn(turn: Turn, fetched: Mapping[str, bytes]) -> tuple[str, str, tuple[bytes, ...]]:
    if isinstance(turn.content, str):
        return turn.role, turn.content, ()
    text = "\n".join(part.text for part in turn.content if isinstance(part, TextPart))
    urls = [part.image_url.url for part in turn.content if isinstance(part, ImagePart)]
    return turn.role, text, tuple(fetched[url] if url in fetched else from_data_uri(url) for url in urls)
