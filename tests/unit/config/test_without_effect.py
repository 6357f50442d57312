from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.config.test_config import JOBS, SMALLEST

from dpe_ray.config import TrainConfig, keys_without_effect, load_config, written_keys
from dpe_ray.config.without_effect import RULES
from dpe_ray.train.settings import SftSettings


def told(path: Path, *overrides: str) -> list[str]:
    return keys_without_effect(load_config(path, overrides), written_keys(path, overrides))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(SMALLEST | {"support": {"source": "s"}}))
    return tmp_path / "run.yaml"


@pytest.mark.parametrize("job", sorted(JOBS.glob("*.yaml")), ids=lambda job: job.name)
def test_no_job_of_the_repository_states_a_key_without_effect(job: Path) -> None:
    assert told(job) == []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["supply.retrieve.k=3", "supply.retrieve.index=bm25"],
            "supply.retrieve.index, supply.retrieve.k: no effect, since supply.order is [annotate]",
        ),
        (
            ["supply.order=[retrieve]", "supply.attempts=2"],
            "supply.attempts: no effect, since supply.order is [retrieve]",
        ),
        (
            ["supply.order=[retrieve]", "supply.pass_rate=[0.2, 0.9]"],
            "supply.pass_rate: no effect, since supply.order is [retrieve] and supply.retrieve.screen is false",
        ),
        (["diagnose.locate=random"], "diagnose.locate: no effect, since diagnose.method is categories"),
        (["diagnose.method=both", "diagnose.locate=random", "diagnose.delta=0.1"], "diagnose.delta: no effect, since"),
        (["train.sft.lr=0.1"], "train.sft.lr: no effect, since train.method is grpo"),
        (["train.method=sft", "train.lr=0.1"], "train.lr: no effect, since train.method is sft; its own keys stand"),
        (["train.tuning=full", "train.lora_rank=4"], "train.lora_rank: no effect, since train.tuning is full"),
        (["train.num_gpus=0.5"], "train.num_gpus: no effect, since train.use_gpu is false"),
        (["plan.target={map: 1}"], "plan.target.map: no effect, since plan.method is tiered"),
    ],
)
def test_a_written_key_that_nobody_reads_is_one_line_with_the_reason(
    path: Path, overrides: list[str], line: str
) -> None:
    (found,) = told(path, *overrides)
    assert found.startswith(line)


def test_only_keys_that_differ_from_the_preset_are_told(path: Path) -> None:
    preset = ["preset=error_driven", "diagnose.method=categories"]
    assert told(path, *preset) == []
    assert told(path, *preset, "diagnose.delta=0.2") == []
    assert len(told(path, *preset, "diagnose.delta=0.3")) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ["supply.order=[retrieve]", "supply.retrieve.screen=true", "supply.pass_rate=[0.2, 0.9]"],
        ["supply.retrieve.filling=fixed_k", "supply.retrieve.k=3", "supply.order=[retrieve, annotate]"],
        ["diagnose.method=both", "diagnose.delta=0.1"],
        ["train.method=chain", "train.sft.lr=0.1", "train.lr=0.1"],
        ["train.method=sft", "train.group_size=4", "train.max_tokens=20"],
        ["supply.annotate.start=cell", "tools.search.candidates=2"],
    ],
)
def test_keys_that_are_read_are_not_told(path: Path, overrides: list[str]) -> None:
    assert told(path, *overrides) == []


def test_every_key_of_a_rule_exists(path: Path) -> None:
    tree = load_config(path).model_dump()
    for key in " ".join(rule.keys for rule in RULES).split():
        part: Any = tree
        for name in key.split("."):
            assert name in part, key
            part = part[name]


def test_the_keys_that_sft_does_not_read_are_those_that_it_has_not() -> None:
    (grpo_only,) = [rule.keys.split() for rule in RULES if "train.lr" in rule.keys.split()]
    own = {"lr", "warmup", "weight_decay"}  # sft has its own of these
    read = set(SftSettings.__dataclass_fields__) - own
    placed = {"method", "sft", "workers", "num_cpus", "use_gpu", "num_gpus", "rollouts"}
    assert {key.removeprefix("train.") for key in grpo_only} == set(TrainConfig.model_fields) - read - placed
