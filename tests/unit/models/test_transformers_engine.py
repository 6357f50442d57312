import asyncio
import dataclasses
import io
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from dpe_ray.errors import BadRequest, ConfigError, ModelError, ModelUnavailable
from dpe_ray.models.engines import create_engine
from dpe_ray.models.policy import load_policy, save_policy
from dpe_ray.models.sampling import rollout_seeds
from dpe_ray.ports import EngineRequest
from dpe_ray.types import PolicyRef


def png(colour="red"):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


ASK = EngineRequest((("user", "What colour?", (png("red"),)),), temperature=0.0, max_tokens=8)


@pytest.fixture
def engine(student):
    return create_engine("transformers", student, {})


@pytest.fixture(scope="module")
def other(student, tmp_path_factory):
    """Another policy with the same tokens, as adapter and whole."""
    folder = tmp_path_factory.mktemp("other")
    adapted = load_policy(PolicyRef(student), trainable="lora")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    save_policy(adapted.model, adapted.processor, folder / "adapter")
    save_policy(adapted.model.merge_and_unload(), adapted.processor, folder / "whole")
    return folder


@pytest.fixture
def hub(student, other, tmp_path, monkeypatch):
    """A hub's cache with revisions `main` and `next` of a model, in folders of these names, and no way to the hub."""
    model = tmp_path / "models--some--student"
    (model / "refs").mkdir(parents=True)
    for name, source in (("main", student), ("next", other / "whole")):
        (model / "refs" / name).write_text(name * 10)
        shutil.copytree(source, model / "snapshots" / (name * 10))
        (tmp_path / name).symlink_to(model / "snapshots" / (name * 10))
    template = tmp_path / "next" / "chat_template.jinja"
    template.write_text(template.read_text() + "red blue")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


async def test_the_revision_of_a_hub_id_decides_about_weights_and_processor(hub):
    asked = [("some/student", {}), ("some/student", {"revision": "next"}), (hub / "main", {}), (hub / "next", {})]
    main, next_, its_main, its_next = [
        await create_engine("transformers", str(source), options).chat(ASK) for source, options in asked
    ]
    assert (texts(main), texts(next_)) == (texts(its_main), texts(its_next))
    assert texts(main) != texts(next_)
    assert next_[0].prompt_tokens == its_next[0].prompt_tokens > main[0].prompt_tokens
    with pytest.raises(ModelError, match="cannot be loaded"):
        create_engine("transformers", "some/student", {"revision": "gone"})


def texts(completions):
    return [c.text for c in completions]


async def test_requests_that_arrive_together_share_a_batch_and_answer_as_alone(engine):
    asks = [
        dataclasses.replace(ASK, messages=(("user", f"What colour{' red' * i}?", (png(c),)),), n=1 + i % 3)
        for i, c in enumerate(("red", "blue", "lime", "white", "black"))
    ]
    together = await asyncio.gather(*[engine.chat(ask) for ask in asks])
    alone = [await engine.chat(ask) for ask in asks]
    assert [texts(answer) for answer in together] == [texts(answer) for answer in alone]
    assert [len(answer) for answer in together] == [1, 2, 3, 1, 2]


async def test_more_than_fits_is_decoded_in_turns(student):
    engine = create_engine("transformers", student, {"max_sequences": 4})
    answers = await asyncio.gather(*[engine.chat(dataclasses.replace(ASK, n=3)) for _ in range(5)])
    assert all(texts(answer) == texts(answers[0]) for answer in answers)


async def test_a_seed_repeats_and_no_seed_does_not(engine):
    seeded = dataclasses.replace(ASK, temperature=1.0, n=4, seed=11)
    assert texts(await engine.chat(seeded)) == texts(await engine.chat(seeded))
    free = dataclasses.replace(seeded, seed=None)
    assert texts(await engine.chat(free)) != texts(await engine.chat(free))


async def test_the_event_loop_stays_free_while_it_decodes(engine):
    ask = asyncio.create_task(engine.chat(dataclasses.replace(ASK, n=200, max_tokens=60)))
    beats = 0
    while not ask.done():
        await asyncio.sleep(0.01)
        beats += 1
    assert beats > 5


async def test_a_caller_that_leaves_does_not_disturb_the_others(engine):
    leaving = asyncio.create_task(engine.chat(ASK))
    staying = asyncio.create_task(engine.chat(ASK))
    await asyncio.sleep(0)
    leaving.cancel()
    assert texts(await staying) == texts(await engine.chat(ASK))


@pytest.mark.parametrize("kind", ["adapter", "whole"])
async def test_a_new_policy_is_served_without_a_restart(engine, student, other, kind):
    before = await engine.chat(ASK)
    base, adapter = (student, str(other / "adapter")) if kind == "adapter" else (str(other / "whole"), "")
    assert engine.version == 0
    assert engine.load_policy(PolicyRef(base, adapter, 4)) == engine.version == 4
    after = await engine.chat(ASK)
    assert texts(after) != texts(before)
    engine.load_policy(PolicyRef(student))
    assert texts(await engine.chat(ASK)) == texts(before)


async def test_an_adapter_after_an_adapter_reads_no_base_again(engine, student, other, monkeypatch):
    adapter = str(other / "adapter")
    engine.load_policy(PolicyRef(student, adapter, 1))
    once = texts(await engine.chat(ASK))
    monkeypatch.setattr("dpe_ray.models.transformers_engine.load_policy", None)
    assert engine.load_policy(PolicyRef(student, adapter, 2)) == engine.version == 2
    assert texts(await engine.chat(ASK)) == once


def tokens(groups):
    return [[rollout.completion.token_ids for rollout in group.rollouts] for group in groups]


async def test_an_exchange_that_breaks_half_way_answers_nobody_until_one_succeeds(
    engine, student, other, make_prompt, monkeypatch
):
    settings = {"group_size": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 4, "seed": 1}
    engine.load_policy(PolicyRef(student, str(other / "adapter"), 1))
    before = texts(await engine.chat(ASK))
    layers = list(engine._held._layers.values())

    def no_room(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(layers[len(layers) // 2], "get_delta_weight", no_room)
        with pytest.raises(torch.OutOfMemoryError):
            engine.load_policy(PolicyRef(student, str(other / "adapter"), 2))
    with pytest.raises(ModelUnavailable, match="broke half-way"):
        engine.rollout([make_prompt("What?")], **settings)
    with pytest.raises(ModelUnavailable, match="broke half-way"):
        await engine.chat(ASK)
    engine.load_policy(PolicyRef(student, str(other / "adapter"), 3))
    assert texts(await engine.chat(ASK)) == before
    assert engine.rollout([make_prompt("What?")], **settings)[0].policy_version == 3


async def test_a_whole_load_mends_an_exchange_that_broke(engine, student, other, monkeypatch):
    plain = texts(await engine.chat(ASK))
    engine.load_policy(PolicyRef(student, str(other / "adapter"), 1))
    monkeypatch.setattr(engine._held, "exchange", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.load_policy(PolicyRef(student, str(other / "adapter"), 2))
    engine.load_policy(PolicyRef(student, version=3))
    assert (texts(await engine.chat(ASK)), engine.version) == (plain, 3)


def test_rollouts_keep_order_tokens_and_version(engine, student, other, make_prompt):
    engine.load_policy(PolicyRef(student, str(other / "adapter"), 2))
    prompts = [make_prompt(f"What colour{' red' * (7 - i)}?", c) for i, c in enumerate(("red", "blue", "lime"))]
    settings = {"group_size": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 6, "seed": 1}
    groups = engine.rollout(prompts, **settings)
    assert [g.prompt for g in groups] == prompts
    assert {g.policy_version for g in groups} == {2}
    for group in groups:
        assert len(group.rollouts) == 4
        tokenizer = engine._policy.processor.tokenizer
        assert group.prompt.text in tokenizer.decode(group.prompt_ids)
        for rollout in group.rollouts:
            done = rollout.completion
            assert len(done.token_ids) == len(done.logprobs) > 0
            assert tokenizer.decode(done.token_ids, skip_special_tokens=True) == done.text
    split = engine.rollout(prompts[:1], **settings) + engine.rollout(prompts[1:], **settings)
    assert tokens(split) == tokens(groups)


async def test_a_prompt_asked_twice_is_not_given_the_same_draws(engine, make_prompt):
    prompt = make_prompt("What colour?")
    one, two = engine.rollout([prompt, prompt], group_size=3, temperature=1.0, top_p=1.0, max_tokens=8, seed=1)
    assert one.rollouts != two.rollouts


def test_prompts_that_are_split_with_their_seeds_are_given_the_draws_of_the_whole(engine, make_prompt):
    prompts = [make_prompt("What colour?"), make_prompt("What shape?")] * 2
    settings = {"group_size": 3, "temperature": 1.0, "top_p": 1.0, "max_tokens": 8}
    whole, seeds = engine.rollout(prompts, **settings, seed=1), rollout_seeds(prompts, 1)
    parts = [engine.rollout(prompts[i : i + 2], **settings, seed=seeds[i : i + 2]) for i in (0, 2)]
    assert tokens(parts[0] + parts[1]) == tokens(whole)
    assert len(set(map(str, tokens(whole)))) == 4


@pytest.mark.parametrize("wrong", [
    {"n": 0}, {"n": 10_000}, {"temperature": -1.0}, {"top_p": 0.0}, {"max_tokens": 0}, {"max_tokens": 100_000},
    {"messages": (("user", "Look", (b"no picture",)),)}, {"messages": (("user", "<image>", ()),)},
    {"messages": (("user", "<image>", (png(),)),)}, {"top_logprobs": 21}, {"top_logprobs": -1},
    {"reply_schema": {"type": "object"}},
])  # fmt: skip
async def test_a_wrong_request_is_refused_and_the_next_one_is_served(engine, wrong):
    with pytest.raises(BadRequest):
        await engine.chat(dataclasses.replace(ASK, **wrong))
    assert len(await engine.chat(ASK)) == 1


async def test_alternatives_come_when_asked_for(engine):
    [told] = await engine.chat(dataclasses.replace(ASK, logprobs=True, top_logprobs=5))
    assert [len(step) for step in told.top_logprobs] == [5] * len(told.token_ids)
    assert [step[0][0] for step in told.top_logprobs] == list(told.tokens)  # it is greedy
    [plain] = await engine.chat(dataclasses.replace(ASK, logprobs=True))
    assert (plain.text, plain.top_logprobs, plain.tokens) == (told.text, (), told.tokens)


async def test_a_batch_that_fails_fails_for_its_callers_and_the_next_one_is_served(engine):
    model = engine._policy.model
    broken = model.register_forward_pre_hook(lambda *_: 1 / 0)
    answers = await asyncio.gather(engine.chat(ASK), engine.chat(ASK), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ZeroDivisionError] * 2
    broken.remove()
    assert len(await engine.chat(ASK)) == 1


def test_unknown_engines_and_options_are_config_errors(student):
    with pytest.raises(ConfigError, match=r"installed are .*transformers"):
        create_engine("nothing", student, {})
    with pytest.raises(ConfigError, match="no option 'thread'"):
        create_engine("transformers", student, {"thread": 1})


def test_it_runs_without_the_rest_of_the_dependencies():
    script = """
import sys
for name in ("pydantic", "openai", "ray", "tenacity", "imagehash", "scipy", "sklearn"):
    sys.modules[name] = None
import dpe_ray.models.transformers_engine, dpe_ray.models.policy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
