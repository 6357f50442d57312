"""What the agents may use when a slot begins with a cell: image search and image editing."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dpe_ray.config.part import Part


class SearchConfig(Part):
    """Where the images for a cell are looked for."""

    source: Literal["pool", "web"] = "pool"
    """pool: by BM25 over the captions, titles and tags of `pool`, or over file names where an image has none; web:
    Openverse, a catalogue of openly licensed images, held to about one search a second."""
    candidates: Annotated[int, Field(ge=1, le=12)] = 4
    """Images that the image selector is shown per slot; each is a part of its prompt."""
    url: str = "https://api.openverse.org/v1"
    """Of Openverse, or of a server that speaks its API."""
    token_env: str = ""
    """Environment variable of the workers that holds an OAuth2 token of Openverse; empty asks anonymously."""
    licence_type: Literal["commercial,modification", "commercial", "modification", "all"] = "commercial,modification"
    """Uses that the licence of a web image must allow. An image that states no licence is never taken."""
    user_agent: str = "dpe-ray/0.1"
    """Sent to Openverse and to the hosts of the images; many of them ask for a contact address in it."""
    networks: tuple[str, ...] = ()
    """CIDR of networks that are not public but may be asked for images, such as `10.1.0.0/16`; also for those that an
    editing model answers with. None by default: an address in a private, loopback or link-local network is refused,
    also behind a redirect."""


class EditConfig(Part):
    """How chosen images may be changed."""

    how: Literal["none", "operations", "model"] = "none"
    """none; operations: crop, rotate, redact, label, side by side, ... by Pillow, which cost no call of their own;
    model: those, and instructions that a model follows at an OpenAI-compatible `images/edits` endpoint."""
    model: str = ""
    """Entry of `models` that edits; one with a `base_url`."""
    limits: str = ""
    """YAML of category: [operations that are forbidden]; `instruction` stands for edits by a model. Empty: ours."""
    fields: dict[str, str] = {}
    """Further fields of the editing request, such as `{size: 1024x1024}`."""
    seeded: bool = False
    """Send a seed with the editing request; OpenAI's own models refuse it."""

    @model_validator(mode="after")
    def _painted(self) -> Self:
        if self.how == "model" and not self.model:
            raise ValueError("how: model needs model: the entry of models that edits images")
        if self.how != "model" and self.model:
            raise ValueError(f"model {self.model!r} is only asked with how: model")
        return self


class ToolsConfig(Part):
    """The tools of the agents, used with `supply.annotate.start: cell`."""

    search: SearchConfig = SearchConfig()
    edit: EditConfig = EditConfig()

    @model_validator(mode="after")
    def _licensed(self) -> Self:
        search, edits = self.search, self.edit.how != "none"
        if search.source == "web" and edits and "modification" not in search.licence_type:
            raise ValueError(
                f"edit.how: {self.edit.how} changes web images, and search.licence_type: {search.licence_type} also "
                "finds some whose licence forbids that; ask for modification or set edit.how: none"
            )
        return self
