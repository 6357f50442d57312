"""The endpoints of a run, and the roles and prompts that are played on them."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dpe_ray.config.part import Part, Positive, Workers

ROLES = (
    "planner",
    "image_selector",
    "image_editor",
    "question_writer",
    "validator",
    "solver",
    "judge",
    "skill_analyst",
    "reader",
)
PROMPTS = (
    *(role for role in ROLES if role != "solver"),
    "cell_planner",
    "program_planner",
    "error_analyst",
    "skill_lister",
    "observer",
)
"""Prompts that a user's file may replace: of roles, where solver and student see the plain answer prompt, and of the
planner's, skill analyst's and judge's further tasks."""


class PriceConfig(Part):
    """What an endpoint charges, in US dollars, in the units of the providers' price lists."""

    input: Annotated[float, Field(ge=0)] = 0.0
    """Per million prompt tokens."""
    output: Annotated[float, Field(ge=0)] = 0.0
    """Per million completion tokens."""
    image: Annotated[float, Field(ge=0)] = 0.0
    """Per thousand images sent, beside their tokens. Stays 0 where image tokens are counted among the prompt's and paid
    as such, as most endpoints do; lists of those that do not state it per thousand (`$/K input imgs` at OpenRouter)."""


class ModelConfig(Part):
    """One endpoint: served by this run (`source` and `engine`) or already there (`base_url`)."""

    source: str = ""
    """Directory, hub id or `builtin:NAME` of the weights; for a model that this run serves."""
    revision: str = ""
    """Of a hub id: branch, tag or commit; for engines that read from a hub."""
    engine: str = ""
    """transformers, vllm, or the name of an engine that a package registers."""
    options: dict[str, Any] = {}
    """Handed to the engine."""
    replicas: Workers = Workers()
    num_cpus: Annotated[float, Field(gt=0)] = 0.25
    """CPUs that one replica reserves."""
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    base_url: str = ""
    """`https://host/v1` of an OpenAI-compatible endpoint."""
    model: str = ""
    """Model name to ask for; the entry's own name when empty."""
    api_key_env: str = ""
    """Environment variable of the worker that holds the key. The key itself never stands in a file."""
    concurrency: Positive = 32
    """Requests in flight from one process."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    retries: Annotated[int, Field(ge=0)] = 4
    """After the first attempt: connection errors, time-outs, 408, 429 and 5xx, with exponential back-off and jitter."""
    json_schema: bool = False
    """The endpoint takes `response_format: json_schema` (OpenAI, vLLM): agents' replies are held to their form. Replies
    are parsed tolerantly either way, and a reply that does not parse is asked for once more."""
    price: PriceConfig = PriceConfig()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.base_url) == bool(self.engine):
            raise ValueError("give either base_url (an endpoint that exists) or engine (this run serves it)")
        if self.engine and not self.source:
            raise ValueError("engine needs a source: a directory, hub id or builtin:NAME")
        return self
