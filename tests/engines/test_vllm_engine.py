"""One vLLM engine, measured against transformers and the trainer: same tokens in, same tokens and log-probs out."""

import asyncio
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from dpe_ray.errors import BadRequest, ConfigError, ModelError
from dpe_ray.models.images import decode, read_bytes
from dpe_ray.models.policy import load_policy, render
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.models.vllm_engine import VllmEngine
from dpe_ray.models.vllm_job import Job
from dpe_ray.ports import EngineRequest
from dpe_ray.train.batching import collate, training_sequences
from dpe_ray.train.logprobs import CompletionLogprobs
from dpe_ray.types import Completion, PolicyRef, Prompt, RolloutGroup

TOLERANCE = 1e-3
"""Of log-probabilities between two implementations in 32 bits."""
GREEDY = {"group_size": 1, "temperature": 0.0, "top_p": 1.0, "max_tokens": 40, "seed": 0}
SAMPLED = {"group_size": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 40, "seed": 7}


@pytest.fixture(scope="module")
def engine(student: str) -> Iterator[VllmEngine]:
    engine = VllmEngine(student, {})
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain(student: str) -> TransformersEngine:
    return TransformersEngine(student, {})


def completions(groups: Sequence[RolloutGroup]) -> list[Completion]:
    return [rollout.completion for group in groups for rollout in group.rollouts]


def ask(prompt: Prompt, **fields: object) -> EngineRequest:
    images = tuple(read_bytes(image) for image in prompt.sample.images)
    request = EngineRequest((("user", prompt.text, images),), temperature=0.0, max_tokens=40)
    return dataclasses.replace(request, **fields)  # type: ignore[arg-type]


async def greedy(engine: VllmEngine | TransformersEngine, prompts: Sequence[Prompt]) -> list[Completion]:
    answers = await asyncio.gather(*[engine.chat(ask(prompt, logprobs=True, top_logprobs=3)) for prompt in prompts])
    return [answer[0] for answer in answers]


def check_equal(ours: Sequence[Completion], theirs: Sequence[Completion]) -> None:
    """Text, tokens and ends are the same, log-probabilities within the tolerance."""
    assert [c.token_ids for c in ours] == [c.token_ids for c in theirs]
    assert [(c.text, c.finished, c.prompt_tokens) for c in ours] == [
        (c.text, c.finished, c.prompt_tokens) for c in theirs
    ]
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)


@pytest.mark.parametrize("policy", ["", "adapter"])
async def test_greedy_tokens_and_log_probs_are_those_of_transformers(
    engine: VllmEngine, plain: TransformersEngine, prompts: list[Prompt], student: str, policies: Path, policy: str
) -> None:
    ref = PolicyRef(student, str(policies / policy) if policy else "", 5)
    assert engine.load_policy(ref) == plain.load_policy(ref) == engine.version == 5
    ours, theirs = await greedy(engine, prompts), await greedy(plain, prompts)
    check_equal(ours, theirs)
    assert [c.tokens for c in ours] == [c.tokens for c in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for step, same in zip(one.top_logprobs, other.top_logprobs, strict=True):
            assert [value for _, value in step] == pytest.approx([value for _, value in same], abs=TOLERANCE)


def test_an_adapter_changes_the_very_next_rollouts_and_is_gone_when_the_base_returns(
    engine: VllmEngine, prompts: list[Prompt], student: str, policies: Path
) -> None:
    engine.load_policy(PolicyRef(student))
    before = engine.rollout(prompts, **GREEDY)
    engine.load_policy(PolicyRef(student, str(policies / "adapter"), 100_001))
    after = engine.rollout(prompts, **GREEDY)
    engine.load_policy(PolicyRef(student))
    again = engine.rollout(prompts, **GREEDY)
    assert {group.policy_version for group in after} == {100_001}
    assert [c.token_ids for c in completions(after)] != [c.token_ids for c in completions(before)]
    assert [c.token_ids for c in completions(again)] == [c.token_ids for c in completions(before)]


def test_the_trainer_scores_rollouts_as_vllm_did_and_sees_the_same_prompt_tokens(
    engine: VllmEngine, prompts: list[Prompt], student: str, policies: Path
) -> None:
    ref = PolicyRef(student, str(policies / "adapter"), 3)
    engine.load_policy(ref)
    groups = engine.rollout(prompts[:8], **SAMPLED)
    policy = load_policy(ref)
    trainer = CompletionLogprobs(policy, temperature=1.0)
    for group in groups:
        images = [decode(read_bytes(image)) for image in group.prompt.sample.images]
        assert list(group.prompt_ids) == render(policy.processor, group.prompt.text, images)["input_ids"][0].tolist()
        batch = collate(training_sequences(group), 0)
        with torch.no_grad():
            scored = trainer(batch)
        assert (scored.logprobs - batch.rollout_logprobs).abs().max() < TOLERANCE
    assert len({c.token_ids for c in completions(groups)}) > len(groups)


def test_vllm_shows_the_model_the_trainers_pixels(engine: VllmEngine, prompts: list[Prompt]) -> None:
    for prompt in prompts[:4]:
        images = tuple(decode(read_bytes(image)) for image in prompt.sample.images)
        ids = engine._tokens([("user", prompt.text, images)])
        seen, tensors = engine._core.prepared(Job(ids, images, 1, 0.0, 1.0, 1, None))
        ours = render(engine._processor, prompt.text, images)
        assert seen == ours["input_ids"][0].tolist()
        assert torch.equal(tensors["pixel_values"], ours["pixel_values"])


def test_a_seed_repeats_whatever_shares_the_batch(engine: VllmEngine, prompts: list[Prompt]) -> None:
    whole = engine.rollout(prompts[:6], **SAMPLED)
    parts = [*engine.rollout(prompts[:2], **SAMPLED), *engine.rollout(prompts[2:6], **SAMPLED)]
    assert [c.token_ids for c in completions(whole)] == [c.token_ids for c in completions(parts)]
    other = engine.rollout(prompts[:6], **{**SAMPLED, "seed": 8})
    assert [c.token_ids for c in completions(whole)] != [c.token_ids for c in completions(other)]


async def test_prompts_without_and_with_several_images_share_a_batch(
    engine: VllmEngine, plain: TransformersEngine, prompts: list[Prompt], student: str
) -> None:
    for each in (engine, plain):
        each.load_policy(PolicyRef(student))
    pictures = [read_bytes(prompt.sample.images[0]) for prompt in prompts[:2]]
    asks = [
        EngineRequest((("user", prompts[0].text, ()),), temperature=0.0, max_tokens=12, logprobs=True),
        EngineRequest((("user", prompts[1].text, tuple(pictures)),), temperature=0.0, max_tokens=12, logprobs=True),
        EngineRequest(
            (("system", "Look.", ()), ("user", prompts[2].text, (pictures[1],))),
            temperature=0.0,
            max_tokens=12,
            logprobs=True,
        ),
    ]
    ours = [answer[0] for answer in await asyncio.gather(*[engine.chat(each) for each in asks])]
    theirs = [answer[0] for answer in await asyncio.gather(*[plain.chat(each) for each in asks])]
    check_equal(ours, theirs)


async def test_a_stop_text_is_cut_and_a_reply_keeps_to_its_form(engine: VllmEngine, prompts: list[Prompt]) -> None:
    [whole] = await engine.chat(ask(prompts[0]))
    stop = whole.text[len(whole.text) // 2 :][:4]
    [cut] = await engine.chat(ask(prompts[0], stop=(stop,)))
    assert cut.finished
    assert cut.text == whole.text[: whole.text.find(stop)]
    schema = {"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"]}
    schema["additionalProperties"] = False
    [formed] = await engine.chat(ask(prompts[0], reply_schema=schema, max_tokens=60))
    assert isinstance(json.loads(formed.text)["red"], bool)


@pytest.mark.parametrize("wrong", [
    {"n": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"max_tokens": 0}, {"top_logprobs": 21},
    {"messages": (("user", "Look", (b"no picture",)),)}, {"messages": (("user", "<image>", ()),)},
    {"messages": (("user", "red " * 600, ()),)},
])  # fmt: skip
async def test_a_wrong_request_is_refused_and_the_next_one_is_served(
    engine: VllmEngine, prompts: list[Prompt], wrong: dict[str, object]
) -> None:
    with pytest.raises(BadRequest):
        await engine.chat(ask(prompts[0], **wrong))
    assert len(await engine.chat(ask(prompts[0], n=2))) == 2


async def test_more_images_than_were_asked_for_at_the_start_are_refused(
    engine: VllmEngine, prompts: list[Prompt]
) -> None:
    picture = read_bytes(prompts[0].sample.images[0])
    with pytest.raises(BadRequest, match="8"):
        await engine.chat(ask(prompts[0], messages=(("user", "Look", (picture,) * 9),)))


async def test_a_swap_waits_for_requests_under_way_and_a_request_sees_one_policy(
    engine: VllmEngine, prompts: list[Prompt], student: str, policies: Path
) -> None:
    engine.load_policy(PolicyRef(student))
    rolling = asyncio.create_task(asyncio.to_thread(engine.rollout, prompts, **SAMPLED))
    await asyncio.sleep(0.1)
    swapping = asyncio.create_task(
        asyncio.to_thread(engine.load_policy, PolicyRef(student, str(policies / "adapter"), 9))
    )
    later = asyncio.create_task(asyncio.to_thread(engine.rollout, prompts[:2], **SAMPLED))
    assert {group.policy_version for group in await rolling} == {0}
    assert await swapping == 9
    assert len({group.policy_version for group in await later}) == 1
    assert {group.policy_version for group in engine.rollout(prompts[:1], **SAMPLED)} == {9}


def test_a_policy_that_cannot_be_loaded_leaves_the_old_one(
    engine: VllmEngine, prompts: list[Prompt], student: str, policies: Path, tmp_path: Path
) -> None:
    engine.load_policy(PolicyRef(student, str(policies / "adapter"), 4))
    with pytest.raises(ModelError, match="cannot be read"):
        engine.load_policy(PolicyRef(student, str(tmp_path / "none"), 5))
    assert engine.version == 4
    assert {group.policy_version for group in engine.rollout(prompts[:1], **SAMPLED)} == {4}


def test_an_adapter_that_would_be_applied_in_part_is_refused(
    engine: VllmEngine, prompts: list[Prompt], student: str, policies: Path
) -> None:
    with pytest.raises(ModelError, match=r"multi_modal_projector.*enable_tower_connector_lora"):
        engine.load_policy(PolicyRef(student, str(policies / "projector"), 6))
    assert engine.version != 6
    with pytest.raises(ConfigError, match="counts the picture tokens of llava wrongly"):
        VllmEngine(student, {"enable_tower_connector_lora": True})


def test_rollouts_whose_log_probs_no_trainer_could_use_are_refused(engine: VllmEngine, prompts: list[Prompt]) -> None:
    with pytest.raises(BadRequest, match="processed_logprobs"):
        engine.rollout(prompts[:1], **{**SAMPLED, "temperature": 0.7})
