"""An image-editing model at any OpenAI-compatible `images/edits` endpoint: bounded, retrying."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dpe_ray.errors import BadReply, ModelUnavailable
from dpe_ray.models.downloads import Downloader, DownloadSettings
from dpe_ray.models.images import MAX_BYTES, read_bytes
from dpe_ray.models.journal import Call
from dpe_ray.models.openai_client import EndpointSpec, RetryingClient
from dpe_ray.types import ImageRef

if TYPE_CHECKING:
    from openai import AsyncOpenAI


@dataclass(frozen=True)
class EditSpec(EndpointSpec):
    """How to reach an editing model. Pickles, workers open their own client."""

    extra: dict[str, str] = field(default_factory=dict)
    """Further fields of the form, such as size, quality or response_format: models differ in what they take."""
    seeded: bool = False
    """Send the seed; OpenAI's own models refuse the field."""
    downloads: DownloadSettings = field(default_factory=DownloadSettings)
    """For endpoints that answer with a URL."""

    def open(self) -> "OpenAIEdits":
        """Build the client, inside the process and event loop that will use it. Raises ConfigError without a key."""
        return OpenAIEdits(self)


class OpenAIEdits:
    """The client of one endpoint."""

    def __init__(self, spec: EditSpec) -> None:
        self._client, self._spec = RetryingClient(spec), spec
        self._downloader = Downloader(spec.downloads)

    async def edit(self, images: Sequence[ImageRef], instruction: str, seed: int) -> bytes:
        """Encoded image as the endpoint made it, to be checked like any stranger's.

        Raises ModelUnavailable after all retries, BadRequest when refused, BadReply for what is no image, PoolError.
        """
        spec = self._spec

        def payload() -> dict[str, Any]:
            sent = [(f"{n}.{i.media_type[6:]}", read_bytes(i), i.media_type) for n, i in enumerate(images)]
            fields = {"model": spec.model, "prompt": instruction, "n": 1, **spec.extra}
            seeded = {"extra_body": {"seed": seed}} if spec.seeded else {}
            return {"image": sent if len(sent) > 1 else sent[0], **fields, **seeded}

        return await self._taken(*await self._client.ask(payload, _once, Call(role="image_editor")))

    async def _taken(self, encoded: str, url: str) -> bytes:
        if not encoded:
            return (await self._downloader.fetch(url)).data
        if len(encoded) > MAX_BYTES * 4 // 3 + 4:
            raise BadReply(f"models.{self._spec.name}: an image of more than {MAX_BYTES} bytes; ask for a smaller size")
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadReply(f"models.{self._spec.name}: b64_json is no base64 ({error})") from error


async def _once(client: "AsyncOpenAI", payload: dict[str, Any]) -> tuple[str, str]:
    """Base64 and URL of the first image; one of them is empty."""
    from openai.types import ImagesResponse

    reply = await client.images.edit(**payload)
    image = reply.data[0] if isinstance(reply, ImagesResponse) and reply.data else None
    if image is None or not (image.b64_json or image.url):
        raise ModelUnavailable("the reply holds no image")
    return image.b64_json or "", image.url or ""
