"""What a run is: one frozen tree, checked before anything heavy starts. Unknown keys are refused.

People write sparse YAML; `preset` is read first, the file overrides it, `--set a.b=c` overrides both. The resolved
tree is written into the run.

| file | keys |
| --- | --- |
| models.py | models, roles, prompts |
| sets.py | pool, support, probe, decision, final, answer |
| diagnose.py | diagnose |
| supply.py | plan, supply |
| tools.py | tools |
| train.py | train |
| tracking.py | tracking |
| run.py | the whole; budget, runtime |
| without_effect.py | none: says which written keys nobody reads |
"""

from dpe_ray.config.diagnose import DiagnoseConfig
from dpe_ray.config.loading import load_config, parse_config, written_keys
from dpe_ray.config.models import PROMPTS, ROLES, ModelConfig, PriceConfig
from dpe_ray.config.part import Workers
from dpe_ray.config.run import BudgetConfig, RoleBudget, RunConfig, RuntimeConfig
from dpe_ray.config.sets import AnswerConfig, DecisionConfig, ProbeConfig, SourceConfig, SuiteConfig
from dpe_ray.config.supply import (
    AnnotateConfig,
    ConstructConfig,
    PlanConfig,
    RetrieveConfig,
    SupplyConfig,
    SupplyWorkers,
)
from dpe_ray.config.tools import EditConfig, SearchConfig, ToolsConfig
from dpe_ray.config.tracking import TrackingConfig
from dpe_ray.config.train import SftConfig, TrainConfig
from dpe_ray.config.without_effect import keys_without_effect

__all__ = [
    "PROMPTS",
    "ROLES",
    "AnnotateConfig",
    "AnswerConfig",
    "BudgetConfig",
    "ConstructConfig",
    "DecisionConfig",
    "DiagnoseConfig",
    "EditConfig",
    "ModelConfig",
    "PlanConfig",
    "PriceConfig",
    "ProbeConfig",
    "RetrieveConfig",
    "RoleBudget",
    "RunConfig",
    "RuntimeConfig",
    "SearchConfig",
    "SftConfig",
    "SourceConfig",
    "SuiteConfig",
    "SupplyConfig",
    "SupplyWorkers",
    "ToolsConfig",
    "TrackingConfig",
    "TrainConfig",
    "Workers",
    "keys_without_effect",
    "load_config",
    "parse_config",
    "written_keys",
]
