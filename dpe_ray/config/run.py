"""A whole run: its parts, and what they must be to each other."""

import re
from difflib import get_close_matches
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from dpe_ray.config.diagnose import DiagnoseConfig
from dpe_ray.config.models import PROMPTS, ROLES, ModelConfig, PriceConfig
from dpe_ray.config.part import Part, Positive
from dpe_ray.config.sets import AnswerConfig, DecisionConfig, ProbeConfig, SourceConfig, SuiteConfig
from dpe_ray.config.supply import PlanConfig, SupplyConfig
from dpe_ray.config.tools import ToolsConfig
from dpe_ray.config.tracking import TrackingConfig
from dpe_ray.config.train import TrainConfig

Dollars = Annotated[float, Field(gt=0)]


class RoleBudget(Part):
    """What one role may spend, beside the limits of all together. An empty limit is none."""

    calls: Positive | None = None
    tokens: Positive | None = None
    usd: Dollars | None = None


class BudgetConfig(Part):
    """What the roles together may spend in a run; what student calls take is free.

    The first limit that is reached, be it of one role, ends it: supply closes with what it has, a diagnosis that is cut
    off is the last, and none begins behind it. Calls are never more than their limit. What an answer takes in tokens
    and money is known when it is there: these limits are overshot by the calls in flight when they are reached.

    The judge is not refused while policies are measured on gate and final: what it takes there (for text answers that
    rules cannot decide) counts all the same.
    """

    teacher_calls: Annotated[int, Field(ge=0)] = 20_000
    """Answered calls."""
    tokens: Positive | None = None
    """Of prompts and completions together, as the endpoints report them."""
    usd: Dollars | None = None
    """By the `price` of each entry of `models`."""
    roles: dict[str, RoleBudget] = {}
    """Limits of single roles, by role. An editing model's calls are the image_editor's."""

    @field_validator("roles")
    @classmethod
    def _known(cls, roles: dict[str, RoleBudget]) -> dict[str, RoleBudget]:
        for role in roles:
            if role not in ROLES:
                near = get_close_matches(role, ROLES, 1)
                meant = f"did you mean {near[0]}?" if near else f"roles are {', '.join(ROLES)}"
                raise ValueError(f"no role {role!r}; {meant}")
        return roles


class RuntimeConfig(Part):
    """How the run sits on the machine."""

    http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of the served models on loopback; 0 picks a free one."""
    torch_threads: Positive = 1
    """Per process."""
    object_store_mb: Positive = 256
    """Only for a Ray that this run starts itself."""
    deterministic: bool = False
    """The outcome is that of any other run of this config, whatever ends first and however often it is killed: supply
    works in waves, and models of this run answer requests one by one. Costs time; for engine transformers on CPUs, and
    teachers that answer equal requests equally."""


class RunConfig(Part):
    """A whole run."""

    preset: str = ""
    name: str
    """Names the run's folder and its job: a word of letters, digits, `.`, `_` and `-`."""
    seed: int = 0
    rounds: Positive = 1
    models: dict[str, ModelConfig]
    roles: dict[str, str] = {}
    """Role to entry of `models`; `default` answers for the rest."""
    prompts: dict[str, str] = {}
    """Role to a prompt file of the user's own."""
    taxonomy: str = ""
    pool: SourceConfig | None = None
    """Unlabelled images; needed where `annotate` or `construct` draws from it."""
    support: SourceConfig | None = None
    probe: ProbeConfig
    decision: DecisionConfig
    final: tuple[SuiteConfig, ...] = ()
    answer: AnswerConfig = AnswerConfig()
    diagnose: DiagnoseConfig = DiagnoseConfig()
    plan: PlanConfig = PlanConfig()
    supply: SupplyConfig = SupplyConfig()
    tools: ToolsConfig = ToolsConfig()
    train: TrainConfig = TrainConfig()
    tracking: TrackingConfig = TrackingConfig()
    budget: BudgetConfig = BudgetConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @field_validator("name")
    @classmethod
    def _one_word(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"{name!r} names no folder; use letters, digits, . _ and -")
        return name

    @model_validator(mode="after")
    def _references(self) -> Self:
        if "student" not in self.models:
            raise ValueError("models.student is missing: it is the model that is trained")
        if self.models["student"].base_url:
            raise ValueError("models.student must be served by this run (source and engine): its weights change")
        unknown = [role for role in self.roles if role not in (*ROLES, "default")]
        if unknown:
            raise ValueError(f"roles.{unknown[0]}: no such role; roles are {', '.join(ROLES)} and default")
        unknown = [name for name in self.prompts if name not in PROMPTS]
        if unknown:
            raise ValueError(f"prompts.{unknown[0]}: no such prompt; prompts are {', '.join(PROMPTS)}")
        for role in ROLES:
            if self.model_of(role) not in self.models:
                stated = role if role in self.roles else "default"
                raise ValueError(f"roles.{stated}: no model {self.model_of(role)!r} under models; set roles.default")
        if self.plan.replay > 0 and self.support is None:
            raise ValueError("plan.replay needs support: a labelled set to replay from")
        if self.draws_from_pool and self.pool is None:
            raise ValueError(
                f"supply.order: {' and '.join(self.supply.order)} need pool: {{source: unlabelled images}}"
            )
        searches_support = "retrieve" in self.supply.order and self.supply.retrieve.source == "support"
        if searches_support and self.support is None:
            raise ValueError("supply.order: retrieve needs support: a labelled set to find samples in")
        embedders = {"supply.retrieve": self.supply.retrieve.embedder, "diagnose": self.diagnose.embedder}
        for part, embedder in embedders.items():
            if embedder and embedder not in self.models:
                raise ValueError(f"{part}.embedder: no model {embedder!r} under models")
        return self

    @model_validator(mode="after")
    def _same_weights(self) -> Self:
        """Rollouts of a model in 4 bits come from other probabilities than those of the whole one."""
        student, wanted = self.models.get("student"), self.train.quantize
        served = student.options.get("quantize", "") if student and student.engine == "transformers" else ""
        if served != wanted:
            raise ValueError(
                f"train.quantize is {wanted or 'empty'}, and the student is served with {served or 'whole weights'}; "
                "give both nf4 (models.student: engine transformers, options.quantize), or neither"
            )
        return self

    @model_validator(mode="after")
    def _usable_tools(self) -> Self:
        search, edit = self.tools.search, self.tools.edit
        if self.supply.annotate.start == "image" and (search.source, edit.how) != ("pool", "none"):
            used = "edit" if edit.how != "none" else "search"
            raise ValueError(f"tools.{used} is used where a slot begins with a cell; set supply.annotate.start: cell")
        if edit.model and edit.model not in self.models:
            raise ValueError(f"tools.edit.model: no model {edit.model!r} under models")
        if edit.model and not self.models[edit.model].base_url:
            raise ValueError(f"tools.edit.model: models.{edit.model} needs a base_url with images/edits behind it")
        return self

    @model_validator(mode="after")
    def _money_is_counted(self) -> Self:
        """A limit in dollars that nothing is counted against would bound nothing."""
        budget, free = self.budget, PriceConfig()
        if budget.usd is not None and all(model.price == free for model in self.models.values()):
            raise ValueError("budget.usd: no model has a price; set models.NAME.price")
        for role, limits in budget.roles.items():
            painter = self.tools.edit.model if role == "image_editor" else ""
            names = [name for name in (self.model_of(role), painter) if name]
            if limits.usd is not None and all(self.models[name].price == free for name in names):
                raise ValueError(f"budget.roles.{role}.usd: no price; set models.{names[-1]}.price")
        return self

    @model_validator(mode="after")
    def _can_repeat(self) -> Self:
        """What depends on which answer comes first cannot be promised to repeat."""
        if not self.runtime.deterministic:
            return self
        budget, workers = self.budget, self.train.workers
        by_arrival = {
            f"models.{name}.engine vllm batches by arrival": model.engine == "vllm"
            for name, model in self.models.items()
        } | {
            "budget.tokens, budget.usd and budget.roles end by arrival; bound budget.teacher_calls": bool(
                budget.tokens or budget.usd or budget.roles
            ),
            "supply.construct.planner asks while the budget lasts; set it to false": (
                "construct" in self.supply.order and self.supply.construct.planner
            ),
            f"train.workers may change; give one number, as in workers: {workers.max}": workers.min != workers.max,
        }
        if told := next((told for told, found in by_arrival.items() if found), ""):
            raise ValueError(f"runtime.deterministic: {told}")
        return self

    @property
    def draws_from_pool(self) -> bool:
        """Whether a supplier takes images from `pool`."""
        searches = self.supply.annotate.start == "cell" and self.tools.search.source == "web"
        return "construct" in self.supply.order or ("annotate" in self.supply.order and not searches)

    def model_of(self, role: str) -> str:
        """Name of the `models` entry that plays a role."""
        return self.roles.get(role, self.roles.get("default", "teacher"))
