"""Keys that a person wrote and that change nothing, since another key leaves nobody to read them."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from dpe_ray.config.run import RunConfig


class Rule(NamedTuple):
    """When some keys are not read."""

    keys: str
    """Dotted, parted by spaces; each stands for all keys below it."""
    unread: Callable[[RunConfig], bool]
    because: Callable[[RunConfig], str]


def keys_without_effect(config: RunConfig, written: Collection[str]) -> list[str]:
    """One line for every reason that leaves some of the `written` keys unread, with these keys; see `written_keys`."""
    told: list[str] = []
    left = sorted(written)
    for rule in RULES:
        unread = [key for key in left if _covers(rule.keys.split(), key)] if rule.unread(config) else []
        if unread:
            told.append(f"{', '.join(unread)}: no effect, since {rule.because(config)}")
            left = [key for key in left if key not in unread]
    return told


def _covers(patterns: Collection[str], key: str) -> bool:
    return any(key == pattern or key.startswith(f"{pattern}.") for pattern in patterns)


def _lacks(*names: str) -> Callable[[RunConfig], bool]:
    return lambda config: not set(names) & set(config.supply.order)


def _order(config: RunConfig) -> str:
    return f"supply.order is [{', '.join(config.supply.order)}]"


def _gates_by_pass_rate(config: RunConfig) -> bool:
    screens = "retrieve" in config.supply.order and config.supply.retrieve.screen
    return screens or not _lacks("annotate", "construct")(config)


def _begins_with_image(config: RunConfig) -> bool:
    return config.supply.annotate.start == "image"


RULES = (
    Rule("supply.retrieve", _lacks("retrieve"), _order),
    Rule("supply.annotate supply.attempts supply.solves supply.dissent", _lacks("annotate"), _order),
    Rule("supply.construct", _lacks("construct"), _order),
    Rule("supply.slots_per_sample supply.concurrency", _lacks("annotate", "construct"), _order),
    Rule(
        "supply.pass_rate supply.pass_rate_samples",
        lambda config: not _gates_by_pass_rate(config),
        lambda config: f"{_order(config)} and supply.retrieve.screen is false",
    ),
    Rule("tools", _lacks("annotate"), _order),
    Rule("tools", _begins_with_image, lambda config: "supply.annotate.start is image"),
    Rule(
        "supply.retrieve.k",
        lambda config: config.supply.retrieve.filling != "fixed_k",
        lambda config: f"supply.retrieve.filling is {config.supply.retrieve.filling}",
    ),
    Rule(
        "supply.retrieve.embedder",
        lambda config: config.supply.retrieve.index == "bm25",
        lambda config: "supply.retrieve.index is bm25",
    ),
    Rule(
        "diagnose.locate diagnose.delta diagnose.persistence diagnose.prior diagnose.skills_per_error "
        "diagnose.analysis",
        lambda config: config.diagnose.method == "categories",
        lambda config: "diagnose.method is categories, which looks at no steps",
    ),
    Rule(
        "diagnose.delta diagnose.persistence",
        lambda config: config.diagnose.locate != "answer_switch",
        lambda config: f"diagnose.locate is {config.diagnose.locate}",
    ),
    Rule(
        "diagnose.prior",
        lambda config: config.diagnose.locate not in ("answer_switch", "largest_jump", "change_point"),
        lambda config: f"diagnose.locate is {config.diagnose.locate}",
    ),
    Rule(
        "diagnose.answers",
        lambda config: not (config.diagnose.needs or config.diagnose.votes),
        lambda config: "neither diagnose.needs nor diagnose.votes is true",
    ),
    Rule(
        "plan.target",
        lambda config: config.plan.method != "posterior",
        lambda config: f"plan.method is {config.plan.method}",
    ),
    Rule(
        "train.sft",
        lambda config: config.train.method == "grpo",
        lambda config: "train.method is grpo",
    ),
    Rule(
        "train.prompts_per_step train.updates_per_step train.steps train.lr train.schedule train.warmup "
        "train.weight_decay train.kl train.kl_estimator train.kl_importance train.importance_sampling_level "
        "train.clip_low train.clip_high train.clip_dual train.rollout_ratio train.rollout_cap train.scale_rewards "
        "train.std_ddof train.std_eps train.loss_mean train.mask_truncated_completions train.overlong_buffer "
        "train.drop_equal_groups train.reward train.reward_timeout_s train.permute_rewards train.rollouts_ahead",
        lambda config: config.train.method == "sft",
        lambda config: "train.method is sft; its own keys stand below train.sft",
    ),
    Rule(
        "train.lora_rank train.lora_alpha train.lora_targets",
        lambda config: config.train.tuning == "full",
        lambda config: "train.tuning is full",
    ),
    Rule(
        "train.num_gpus",
        lambda config: not config.train.use_gpu,
        lambda config: "train.use_gpu is false",
    ),
    Rule(
        "train.kl_estimator train.kl_importance",
        lambda config: config.train.kl == 0,
        lambda config: "train.kl is 0",
    ),
    Rule(
        "train.overlong_buffer",
        lambda config: "length" not in config.train.reward,
        lambda config: "train.reward has no length",
    ),
)
"""Broad reasons first: a key is told once."""
