"""A vLLM engine without room for adapters: whole weights are handed over in place, and the caches go."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpe_ray.errors import BadRequest, ModelError
from dpe_ray.models.images import read_bytes
from dpe_ray.models.policy import load_policy
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.models.vllm_engine import VllmEngine
from dpe_ray.ports import EngineRequest
from dpe_ray.train.batching import collate, training_sequences
from dpe_ray.train.logprobs import CompletionLogprobs
from dpe_ray.types import Completion, PolicyRef, Prompt


@pytest.fixture(scope="module")
def engine(student: str) -> Iterator[VllmEngine]:
    engine = VllmEngine(student, {"max_lora_rank": 0, "logprobs_mode": "processed_logprobs"})
    yield engine
    engine.close()


async def greedy(engine: VllmEngine | TransformersEngine, prompts: list[Prompt]) -> list[Completion]:
    asks = [
        EngineRequest(
            (("user", prompt.text, tuple(map(read_bytes, prompt.sample.images))),), temperature=0.0, max_tokens=40
        )
        for prompt in prompts
    ]
    return [answer[0] for answer in await asyncio.gather(*[engine.chat(ask) for ask in asks])]


async def test_other_weights_answer_as_in_transformers_and_the_base_comes_back(
    engine: VllmEngine, prompts: list[Prompt], student: str, policies: Path
) -> None:
    plain = TransformersEngine(student, {})
    before = await greedy(engine, prompts)
    for ref in (PolicyRef(str(policies / "tuned"), version=100_001), PolicyRef(student, version=2)):
        assert engine.load_policy(ref) == plain.load_policy(ref)
        ours, theirs = await greedy(engine, prompts), await greedy(plain, prompts)
        assert [c.token_ids for c in ours] == [c.token_ids for c in theirs]
        assert all(
            one.logprobs == pytest.approx(other.logprobs, abs=1e-3) for one, other in zip(ours, theirs, strict=True)
        )
        changed = [c.token_ids for c in ours] != [c.token_ids for c in before]
        assert changed == (ref.base != student)


def test_weights_that_are_not_all_there_are_refused_and_answer_nobody(
    engine: VllmEngine, prompts: list[Prompt], student: str, policies: Path, tmp_path: Path
) -> None:
    settings = {"group_size": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 4, "seed": 0}
    shutil.copytree(policies / "tuned", tmp_path / "cut")
    [file] = (tmp_path / "cut").glob("*.safetensors")
    weights = load_file(file)
    left_out = next(name for name in sorted(weights) if "mlp" in name)
    save_file({name: weight for name, weight in weights.items() if name != left_out}, file, {"format": "pt"})
    with pytest.raises(ModelError, match="are not all there"):
        engine.load_policy(PolicyRef(str(tmp_path / "cut"), version=9))
    with pytest.raises(ModelError, match="wrote with weights replaced"):
        engine.rollout(prompts[:1], **settings)
    engine.load_policy(PolicyRef(student, version=10))
    assert engine.rollout(prompts[:1], **settings)[0].policy_version == 10


def test_an_adapter_is_refused_by_an_engine_without_room_for_it(
    engine: VllmEngine, student: str, policies: Path
) -> None:
    with pytest.raises(ModelError, match="max_lora_rank is 0"):
        engine.load_policy(PolicyRef(student, str(policies / "adapter"), 3))


def test_rollouts_at_another_temperature_carry_its_log_probs(
    engine: VllmEngine, prompts: list[Prompt], student: str
) -> None:
    engine.load_policy(PolicyRef(student))
    [group] = engine.rollout(prompts[:1], group_size=4, temperature=1.7, top_p=1.0, max_tokens=12, seed=3)
    batch = collate(training_sequences(group), 0)
    with torch.no_grad():
        scored = CompletionLogprobs(load_policy(PolicyRef(student)), temperature=1.7)(batch)
    assert (scored.logprobs - batch.rollout_logprobs).abs().max() < 1e-3
    with pytest.raises(BadRequest, match="raw_logprobs"):
        engine.rollout(prompts[:1], group_size=4, temperature=1.7, top_p=0.9, max_tokens=12, seed=3)
