from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dpe_ray.config import ROLES, DecisionConfig, RunConfig, load_config, parse_config
from dpe_ray.errors import ConfigError

JOBS = Path(__file__).parents[3] / "jobs"
SMALLEST: dict[str, Any] = {
    "name": "x",
    "models": {"student": {"source": "dir", "engine": "transformers"}, "teacher": {"base_url": "https://host/v1"}},
    "pool": {"source": "images"},
    "probe": {"source": "probe.parquet"},
    "decision": {"suite": "gate.parquet"},
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(tmp_path: Path, *overrides: str, **tree: Any) -> RunConfig:
    return load_config(write(tmp_path, yaml.safe_dump(SMALLEST | tree)), overrides)


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_job_of_the_repository_is_valid(path: Path) -> None:
    assert load_config(path).name


def test_the_file_overrides_the_preset_and_set_overrides_both(tmp_path: Path) -> None:
    tree = {"preset": "dpe", "plan": {"replay": 0.1}, "support": {"source": "s"}}
    config = load(tmp_path, "plan.total=64", "train.lr=1e-4", **tree)
    assert (config.plan.total, config.plan.replay, config.plan.floor) == (64, 0.1, 0.02)
    assert config.train.updates_per_step == 4
    assert config.rounds == 3


def test_the_preset_dpe_pins_the_numbers_of_the_paper(tmp_path: Path) -> None:
    config = load(tmp_path, preset="dpe")
    train = config.train
    assert (train.group_size, train.prompts_per_step, train.updates_per_step, train.steps) == (8, 512, 4, 10)
    assert (train.lr, train.kl, train.clip_low, train.clip_high, train.clip_dual) == (1e-6, 0.01, 0.2, 0.3, 3.0)
    assert (config.supply.pass_rate, config.supply.pass_rate_samples, config.probe.size) == ((0.3, 0.8), 9, 200)
    assert train.reward == {"accuracy": 0.9, "format": 0.1}
    assert not train.drop_equal_groups


def test_rewards_of_the_users_own_stand_beside_the_built_in_ones(tmp_path: Path) -> None:
    reward = {"accuracy": 0.8, "length": 0.1, "own/near.py:near": 0.1}
    assert load(tmp_path, train={"reward": reward}).train.reward == reward


def test_rewards_of_a_preset_do_not_stand_beside_those_that_were_written(tmp_path: Path) -> None:
    assert load(tmp_path, preset="dpe", train={"reward": {"accuracy": 1.0}}).train.reward == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("reward", "told"),
    [
        ({}, "train.reward: no part has a weight: nothing would be learned"),
        ({"accuracy": 0.0}, "train.reward: no part has a weight: nothing would be learned"),
        ({"style": 1.0}, "train.reward: no reward 'style'; there are accuracy, format, length and path/to/file.py:f"),
        ({"own/near.txt:near": 1.0}, "no reward 'own/near.txt:near'"),
        ({"a.py:near": 1.0, "b.py:near": 1.0}, "two rewards are named near"),
        ({"a.py:format": 1.0, "format": 1.0}, "two rewards are named format"),
    ],
)
def test_a_reward_that_nobody_knows_is_refused(tmp_path: Path, reward: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, train={"reward": reward})
    assert told in str(caught.value)


def test_the_preset_error_driven_pins_the_numbers_of_the_paper(tmp_path: Path) -> None:
    config = load(tmp_path, preset="error_driven", support={"source": "s"})
    diagnose, train = config.diagnose, config.train
    assert (diagnose.method, diagnose.locate, diagnose.prior) == ("answer_switch", "answer_switch", 0.6)
    assert (diagnose.skills_per_error, diagnose.analysis, config.plan.method) == (1, True, "error_count")
    assert (config.supply.order, config.supply.retrieve.index) == (("retrieve",), "bm25")
    assert (train.method, train.tuning, train.lora_rank, train.lora_alpha) == ("sft", "lora", 128, 256)
    assert (train.sft.lr, train.sft.projector_lr, train.sft.warmup, train.sft.epochs) == (2e-4, 2e-5, 0.03, 1)
    assert train.sft.rationale_share > 0


def test_the_preset_unified_joins_both_methods(tmp_path: Path) -> None:
    config = load(tmp_path, preset="unified", support={"source": "s"})
    assert (config.diagnose.method, config.diagnose.needs, config.plan.method) == ("both", True, "posterior")
    assert (config.supply.order, config.train.method) == (("retrieve", "annotate"), "grpo")
    assert (config.supply.retrieve.screen, config.supply.retrieve.same_category) == (True, True)
    assert (config.plan.floor, config.plan.replay, config.train.top_p) == (0.02, 0.25, 1.0)


@pytest.mark.parametrize("preset", ["error_driven", "unified"])
def test_a_preset_that_retrieves_says_that_it_needs_a_support_set(tmp_path: Path, preset: str) -> None:
    with pytest.raises(ConfigError, match="needs support"):
        load(tmp_path, preset=preset)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("plan.totl=5", "plan.totl: no such key"),
        ("plan.total=0", "plan.total: Input should be greater than or equal to 1 (got 0)"),
        ("plan.total=many", "plan.total"),
        ("supply.pass_rate=[0.8, 0.3]", "is no band"),
        ("supply.workers={min: 3, max: 2}", "max 2 is below min 3"),
        ("roles={jugde: teacher}", "no such role"),
        ("prompts={validater: mine.jinja}", "prompts.validater: no such prompt; prompts are planner"),
        ("prompts={solver: mine.jinja}", "no such prompt"),
        ("supply.order=[annotate, annotate]", "names a supplier twice"),
        ("supply.dissent=1", "lets any label pass; give less than solves, 1"),
        ("supply.order=[]", "supply.order"),
        ("supply.order=[anotate]", "supply.order.0"),
        ("supply.workers={labels: {annotation: 0}}", "supply.workers.labels.annotation"),
        ("roles.default=nobody", "no model 'nobody' under models"),
        ("models.student={base_url: https://host/v1}", "must be served by this run"),
        ("models.teacher={}", "give either base_url"),
        ("plan.replay=0.5", "needs support"),
        ("supply.order=[retrieve]", "retrieve needs support"),
        ("supply.order=[annotate, retrieve, annotate]", "names a supplier twice"),
        ("supply.retrieve.index=dense", "index: dense needs embedder"),
        ("supply.retrieve={index: hybrid, embedder: e5}", "no model 'e5' under models"),
        ("diagnose.embedder=e5", "diagnose.embedder: no model 'e5' under models"),
        ("supply.retrieve={by: chance, index: dense, embedder: e5}", "index: dense is not asked"),
        ("supply.retrieve.filling=best", "supply.retrieve.filling"),
        ("supply.annotate.start=text", "supply.annotate.start"),
        ("tools.search.candidates=0", "tools.search.candidates"),
        ("tools.search.source=web", "tools.search is used where a slot begins with a cell; set supply.annotate.start"),
        ("tools.edit.how=operations", "tools.edit is used where a slot begins with a cell; set supply.annotate.start"),
        ("tools.edit.how=model", "how: model needs model"),
        ("tools.edit={how: operations, model: teacher}", "'teacher' is only asked with how: model"),
        ("diagnose.locate=guess", "diagnose.locate"),
        ("diagnose.prior=0.4", "diagnose.prior"),
        ("diagnose.skills_per_error=4", "diagnose.skills_per_error"),
        ("diagnose={method: both, locate: none, analysis: false}", "locate: none finds none"),
        ("diagnose={votes: true, needs: true}", "votes: true has no gold answers"),
        ("diagnose={votes: true, method: both}", "votes: true has no gold answers"),
        ("preset=none", "no preset 'none'; there are dpe"),
        ("plan", "write it as a.b=value"),
        ("name.x=3", "name is a value"),
        ("plan.total={", "is no YAML value"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_that_names_it(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, override)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("tools", "message"), [
    ({"edit": {"how": "model", "model": "painter"}}, "tools.edit.model: no model 'painter' under models"),
    ({"edit": {"how": "model", "model": "student"}}, "models.student needs a base_url"),
    ({"edit": {"how": "operations"}, "search": {"source": "web", "licence_type": "all"}}, "ask for modification"),
])  # fmt: skip
def test_tools_that_do_not_fit_each_other_or_the_models_are_refused(
    tmp_path: Path, tools: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, supply={"annotate": {"start": "cell"}}, tools=tools)
    assert message in str(error.value)


def test_tools_may_search_the_web_and_edit_by_a_model(tmp_path: Path) -> None:
    tools = {"search": {"source": "web", "candidates": 6}, "edit": {"how": "model", "model": "teacher"}}
    config = load(tmp_path, supply={"annotate": {"start": "cell"}}, tools=tools)
    assert (config.tools.search.candidates, config.tools.edit.limits) == (6, "")
    assert load(tmp_path).supply.annotate.start == "image"


@pytest.mark.parametrize("text", ["", "[1]", "a: b: c", "\0", "name: x"])
def test_a_file_that_is_no_run_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, text))
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "gone.yaml")


def test_the_resolved_tree_parses_to_an_equal_config(tmp_path: Path) -> None:
    config = load(tmp_path, preset="dpe")
    assert parse_config(config.model_dump(mode="json"), "config.json") == config


def test_every_role_has_a_model_and_the_default_answers_for_the_rest(tmp_path: Path) -> None:
    models = SMALLEST["models"] | {"big": {"base_url": "https://big/v1"}}
    config = load(tmp_path, models=models, roles={"default": "teacher", "judge": "big"})
    assert {role: config.model_of(role) for role in ROLES if config.model_of(role) != "teacher"} == {"judge": "big"}


@pytest.mark.parametrize(("workers", "taken"), [(3, 3), ({"min": 1, "max": 4}, (1, 4)), ({"min": 2, "max": 2}, 2)])
def test_training_workers_are_a_number_or_a_range(tmp_path: Path, workers: Any, taken: Any) -> None:
    assert load(tmp_path, train={"workers": workers}).train.num_workers == taken


def test_a_config_is_frozen() -> None:
    config = DecisionConfig(suite="gate")
    with pytest.raises(ValidationError):
        config.margin = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"train": {"stpes": 3}}, r"train\.stpes: no such key; did you mean steps\?"),
        ({"models": SMALLEST["models"] | {"teacher": {"base_ulr": "x"}}}, "did you mean base_url"),
        ({"final": [{"siute": "x"}]}, "did you mean suite"),
        ({"budget": {"zzz": 3}}, "no such key; there are roles, teacher_calls, tokens, usd"),
        (
            {"budget": {"roles": {"validater": {"calls": 3}}}},
            r"budget\.roles: no role 'validater'; did you mean validator",
        ),
        ({"budget": {"roles": {"student": {"calls": 3}}}}, r"no role 'student'; roles are planner, "),
        (
            {"budget": {"roles": {"judge": {"call": 3}}}},
            r"budget\.roles\.judge\.call: no such key; did you mean calls\?",
        ),
        ({"roles": {"default": "teecher"}}, r"roles\.default: no model 'teecher'"),
    ],
)
def test_a_misspelt_name_is_told_with_what_was_meant(tmp_path: Path, tree: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, **tree)


def test_all_mistakes_of_a_file_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, train={"steps": 0, "lr": "fast"}, rounds=-1, bdget=3)
    told = str(error.value).partition(".yaml: ")[2].split("; ")
    assert told[:2] == ["bdget: no such key", "did you mean budget?"]
    assert [line.partition(":")[0] for line in told[2:]] == ["rounds", "train.steps", "train.lr"]
    wrong = dict.fromkeys(("steps", "lr", "kl", "max_tokens", "lora_rank", "micro_batch", "warmup"), -1)
    with pytest.raises(ConfigError, match=r"; and 2 more$"):
        load(tmp_path, train=wrong)


def test_more_workers_than_prompts_of_a_step_are_refused_before_a_run_begins(tmp_path: Path) -> None:
    workers = {"workers": {"min": 1, "max": 3}, "prompts_per_step": 2}
    with pytest.raises(ConfigError, match=r"prompts_per_step: 2 for 3 workers; lower train\.workers"):
        load(tmp_path, train=workers)
    assert load(tmp_path, train=workers | {"method": "sft"}).train.workers.max == 3


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rounds stands twice"):
        load_config(write(tmp_path, yaml.safe_dump(SMALLEST) + "rounds: 1\nrounds: 2\n"))


def test_a_mapping_may_be_merged_into_another(tmp_path: Path) -> None:
    text = yaml.safe_dump(SMALLEST | {"plan": {"total": 7}}) + "budget: &all {teacher_calls: 9}\n"
    config = load_config(write(tmp_path, text.replace("total: 7", "total: 7\n  <<: {floor: 0.5}")))
    assert (config.plan.total, config.plan.floor, config.budget.teacher_calls) == (7, 0.5, 9)


PRICED = {"base_url": "https://big/v1", "price": {"output": 2.0}}


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"usd": 20.0}, r"budget\.usd: no model has a price; set models\.NAME\.price"),
        ({"roles": {"judge": {"usd": 3.0}}}, r"budget\.roles\.judge\.usd: no price; set models\.teacher\.price"),
        ({"roles": {"image_editor": {"usd": 3.0}}}, r"image_editor\.usd: no price; set models\.teacher\.price"),
        ({"usd": 0}, r"budget\.usd: .* greater than 0"),
    ],
)
def test_a_limit_of_money_that_bounds_nothing_is_refused(tmp_path: Path, budget: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, budget=budget)


def test_a_limit_of_money_wants_the_price_of_the_model_that_plays_the_role(tmp_path: Path) -> None:
    models, roles = SMALLEST["models"] | {"big": PRICED}, {"default": "teacher", "judge": "big"}
    of_judge = {"usd": 9.0, "roles": {"judge": {"usd": 3.0, "tokens": 5}}}
    limits = load(tmp_path, models=models, roles=roles, budget=of_judge).budget
    assert (limits.usd, limits.tokens, limits.roles["judge"].model_dump()) == (
        9.0,
        None,
        {"calls": None, "tokens": 5, "usd": 3.0},
    )
    with pytest.raises(ConfigError, match=r"roles\.planner\.usd: no price; set models\.teacher\.price"):
        load(tmp_path, models=models, roles=roles, budget={"roles": {"planner": {"usd": 3.0}}})


def test_an_editing_model_has_the_price_of_the_image_editor(tmp_path: Path) -> None:
    edit = {"supply": {"annotate": {"start": "cell"}}, "tools": {"edit": {"how": "model", "model": "big"}}}
    budget = {"roles": {"image_editor": {"usd": 3.0}}}
    load(tmp_path, models=SMALLEST["models"] | {"big": PRICED}, budget=budget, **edit)
    unpriced = SMALLEST["models"] | {"big": {"base_url": "https://big/v1"}}
    with pytest.raises(ConfigError, match=r"image_editor\.usd: no price; set models\.big\.price"):
        load(tmp_path, models=unpriced, budget=budget, **edit)


@pytest.mark.parametrize(
    ("train", "student", "told"),
    [
        ({"tuning": "full"}, {"quantize": "nf4"}, "weights in 4 bits cannot be trained; set tuning: lora"),
        ({"backend": "fsdp2"}, {"quantize": "nf4"}, "fsdp2 does not cut weights in 4 bits into shards"),
        ({"backend": "zero3"}, {"quantize": "nf4"}, "zero3 does not cut weights in 4 bits into shards"),
        ({}, {}, "train.quantize is nf4, and the student is served with whole weights"),
        ({"quantize": ""}, {"quantize": "nf4"}, "train.quantize is empty, and the student is served with nf4"),
    ],
)
def test_weights_in_4_bits_are_refused_where_they_cannot_be_or_differ(
    tmp_path: Path, train: dict[str, str], student: dict[str, str], told: str
) -> None:
    models = {**SMALLEST["models"], "student": SMALLEST["models"]["student"] | {"options": student}}
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, models=models, train={"quantize": "nf4"} | train)
    both = SMALLEST["models"]["student"] | {"options": {"quantize": "nf4"}}
    assert load(tmp_path, models=models | {"student": both}, train={"quantize": "nf4"}).train.quantize == "nf4"


def test_weights_in_4_bits_are_refused_with_vllm(tmp_path: Path) -> None:
    models = {**SMALLEST["models"], "student": {"source": "dir", "engine": "vllm"}}
    with pytest.raises(ConfigError, match="engine transformers"):
        load(tmp_path, models=models, train={"quantize": "nf4"})


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"lora_targets": []}, "lora_targets"),
        ({"lora_targets": ["head"]}, "lora_targets"),
        (
            {"method": "sft", "lora_targets": ["language", "projector"], "sft": {"projector_lr": 1e-5}},
            "sft.projector_lr trains a whole copy",
        ),
    ],
)
def test_targets_of_an_adapter_that_make_no_sense_are_refused(tmp_path: Path, train: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, train=train)
    assert load(tmp_path, train=train | {"lora_targets": ["language", "tower"]}).train.lora_targets[1] == "tower"


@pytest.mark.parametrize("supply", [{"order": ["annotate"]}, {"order": ["retrieve", "construct"]}])
def test_a_supply_that_draws_from_the_pool_asks_for_one(tmp_path: Path, supply: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"need pool: \{source: unlabelled images\}"):
        load(tmp_path, "pool=null", supply=supply, support={"source": "s"})


@pytest.mark.parametrize(
    "tree",
    [
        {"preset": "error_driven"},
        {"supply": {"annotate": {"start": "cell"}}, "tools": {"search": {"source": "web"}}},
    ],
)
def test_a_supply_that_finds_its_samples_elsewhere_needs_no_pool(tmp_path: Path, tree: dict[str, Any]) -> None:
    assert load(tmp_path, "pool=null", support={"source": "s"}, **tree).pool is None


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("support=", "--set support=: write it as a.b=value, null for none"),
        ("support=''", "support: is empty; write it as {source:"),
        ("support=data/set.jsonl", "support: is the text 'data/set.jsonl'; write it as {source:"),
        ("support.source=''", "support.source: is empty; give a folder"),
        ("decision.suite=null", "decision.suite: is empty; give a folder"),
    ],
)
def test_an_empty_place_is_told_as_such(tmp_path: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"is empty|is the text|null for none") as error:
        load(tmp_path, override)
    assert told in str(error.value)
