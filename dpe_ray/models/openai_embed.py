"""An Embedder at any OpenAI-compatible endpoint: bounded, retrying, in batches."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpe_ray.errors import BadReply, ModelUnavailable
from dpe_ray.models.journal import Call
from dpe_ray.models.openai_client import EndpointSpec, RetryingClient
from dpe_ray.ports import Embedder

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Vector = tuple[float, ...]


@dataclass(frozen=True)
class EmbedSpec(EndpointSpec):
    """An EmbedderDoor: pickles, workers open their own client."""

    batch: int = 64
    """Texts per call."""

    def open(self) -> Embedder:
        """Build the client, inside the process and event loop that will use it. Raises ConfigError without a key."""
        return OpenAIEmbedder(self)


class OpenAIEmbedder:
    """The client of one endpoint."""

    def __init__(self, spec: EmbedSpec) -> None:
        self._client = RetryingClient(spec)
        self._spec = spec

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """[N][D] vectors of length 1, in order; one call per `batch` texts.

        Raises ModelUnavailable after all retries, BadRequest when refused, BadReply for a vector without a direction.
        """
        parts = [list(texts[at : at + self._spec.batch]) for at in range(0, len(texts), self._spec.batch)]
        embedded = await asyncio.gather(*[self._embed(part) for part in parts])
        return [vector for vectors in embedded for vector in vectors]

    async def _embed(self, texts: list[str]) -> list[Vector]:
        payload = {"model": self._spec.model, "input": texts, "encoding_format": "float"}  # not all know base64
        vectors = await self._client.ask(lambda: payload, _once, Call(role="embedder"))
        return [self._unit(vector) for vector in vectors]

    def _unit(self, vector: Sequence[float]) -> Vector:
        length = math.hypot(*vector)
        if not length or not math.isfinite(length):
            raise BadReply(f"models.{self._spec.name}: an embedding of length {length}; use another model")
        return tuple(value / length for value in vector)


async def _once(client: "AsyncOpenAI", payload: dict[str, Any]) -> list[list[float]]:
    from openai.types import CreateEmbeddingResponse

    reply = await client.embeddings.create(**payload)
    if not isinstance(reply, CreateEmbeddingResponse) or len(reply.data) != len(payload["input"]):
        raise ModelUnavailable("the reply has not one embedding per text")
    vectors = [item.embedding for item in sorted(reply.data, key=lambda item: item.index)]
    if len({len(vector) for vector in vectors}) > 1:
        raise ModelUnavailable("the reply holds embeddings of unequal lengths")
    return vectors
