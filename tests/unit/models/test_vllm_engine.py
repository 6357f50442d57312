"""What the engine does around vLLM, with a stand-in for vLLM that keeps a diary; vLLM itself: tests/engines."""

import asyncio
import threading

import pytest
import torch

from dpe_ray.errors import ModelError
from dpe_ray.models import vllm_engine
from dpe_ray.models.policy import load_processor, render
from dpe_ray.models.sampling import rollout_seeds
from dpe_ray.models.vllm_engine import VllmEngine, inexact, same_pixels
from dpe_ray.models.vllm_job import Written
from dpe_ray.ports import EngineRequest
from dpe_ray.types import Completion, PolicyRef

SAMPLED = {"group_size": 2, "temperature": 1.0, "top_p": 1.0, "max_tokens": 4, "seed": 0}


class DiaryCore:
    """Counts adapters as vLLM does, tells under which label it writes, and writes down what it is told."""

    applies_towers = False
    broken = False

    def __init__(self, source, options):
        self.diary, self.served, self.adapters, self.count = [], "", set(), 0
        self.processor = load_processor(source)
        self.wrong_pixels = self.wrong_label = False
        self.seeds = []
        self.free = threading.Event()
        self.free.set()

    async def generate(self, job, adapter=0):
        self.diary.append("generate")
        self.seeds.append(job.seed)
        assert adapter == 0 or adapter in self.adapters
        while not self.free.is_set():
            await asyncio.sleep(0.001)
        label = "77" if self.wrong_label else self.served
        return Written((1, 2), tuple(Completion("x", (5,), (-1.0,)) for _ in range(job.n)), frozenset({label}))

    def prepared(self, job):
        inputs = render(self.processor, "What is this?", job.images)
        return inputs["input_ids"][0].tolist(), {"pixel_values": inputs["pixel_values"] + WRONG["by"]}

    async def add_adapter(self, folder):
        self.count += 1
        self.adapters.add(self.count)
        self.diary.append(f"add {self.count}")
        return self.count

    async def remove_adapter(self, number):
        self.adapters.remove(number)
        self.diary.append(f"remove {number}")

    async def load_weights(self, source, revision):
        self.diary.append(f"weights {source}")

    async def label(self, weights):
        self.served = weights
        self.diary.append(f"label {weights}")

    async def sleep(self):
        self.diary.append("sleep")

    async def wake(self):
        self.diary.append("wake")

    def close(self):
        self.diary.append("close")


WRONG = {"by": 0.0}


@pytest.fixture
def make(monkeypatch, student):
    engines = []

    def make(**options):
        engines.append(VllmEngine(student, options))
        engines[-1]._core.diary.clear()
        return engines[-1]

    monkeypatch.setattr(vllm_engine, "VllmCore", DiaryCore)
    monkeypatch.setattr(vllm_engine, "require_vllm", lambda: None)
    monkeypatch.setattr(vllm_engine, "require_served", lambda *_, **__: None)
    monkeypatch.setitem(WRONG, "by", 0.0)
    yield make
    for engine in engines:
        engine.close()


def test_every_swap_has_a_new_adapter_and_the_old_one_goes_after_the_new_one_is_there(make, student):
    engine = make()
    for version in (3, 4):
        assert engine.load_policy(PolicyRef(student, "adapter", version)) == version
    assert engine.load_policy(PolicyRef(student)) == 0
    assert engine._core.diary == ["add 1", "label 3", "add 2", "label 4", "remove 1", "label 0", "remove 2"]


def test_weights_are_read_only_when_they_are_others_than_the_served_ones(make, student):
    engine = make()
    engine.load_policy(PolicyRef(student, version=1))
    engine.load_policy(PolicyRef("whole", version=2))
    engine.load_policy(PolicyRef("whole", "adapter", version=3))
    assert engine._core.diary == ["label 1", "label replaced", "weights whole", "label 2", "add 1", "label 3"]


def test_tokens_of_other_weights_than_were_asked_for_are_refused(make, make_prompt):
    engine = make()
    assert {group.policy_version for group in engine.rollout([make_prompt("What?")], **SAMPLED)} == {0}
    engine._core.wrong_label = True
    with pytest.raises(ModelError, match="wrote with weights 77, asked for were 0"):
        engine.rollout([make_prompt("What?")], **SAMPLED)


def test_a_swap_that_breaks_half_way_answers_nobody_until_one_succeeds(make, make_prompt, student, monkeypatch):
    engine = make()

    async def broken(folder):
        raise ModelError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(engine._core, "add_adapter", broken)
        with pytest.raises(ModelError, match="no room"):
            engine.load_policy(PolicyRef("whole", "adapter", version=2))
    with pytest.raises(ModelError, match="wrote with weights replaced"):
        engine.rollout([make_prompt("What?")], **SAMPLED)
    engine.load_policy(PolicyRef(student, version=3))
    assert engine.rollout([make_prompt("What?")], **SAMPLED)[0].policy_version == 3


def test_the_old_adapter_goes_on_where_the_new_one_cannot_be_named(make, make_prompt, student, monkeypatch):
    engine = make()
    engine.load_policy(PolicyRef(student, "adapter", version=1))

    async def broken(weights):
        raise ModelError("it kept its prefix cache")

    with monkeypatch.context() as patched:
        patched.setattr(engine._core, "label", broken)
        with pytest.raises(ModelError, match="kept its prefix cache"):
            engine.load_policy(PolicyRef(student, "adapter", version=2))
    assert (engine.version, engine._core.adapters) == (1, {1})
    assert engine.rollout([make_prompt("What?")], **SAMPLED)[0].policy_version == 1
    engine.load_policy(PolicyRef(student, "adapter", version=3))
    assert (engine.version, engine._core.adapters) == (3, {3})


def test_a_gpu_is_given_back_after_rollouts_and_taken_again_for_whatever_comes_next(make, make_prompt, student):
    engine = make(sleep=True)
    engine.rollout([make_prompt("What?")], **SAMPLED)
    engine.rollout([make_prompt("What?")], **SAMPLED)
    engine.load_policy(PolicyRef(student, version=1))
    assert engine._core.diary == ["generate", "sleep", "wake", "generate", "sleep", "wake", "label 1"]


def test_prompts_that_are_split_with_their_seeds_are_sampled_with_those_of_the_whole(make, make_prompt):
    engine, prompts = make(), [make_prompt("What?")] * 4
    seeds = rollout_seeds(prompts, 7)
    for part in (slice(0, 1), slice(1, 4)):
        engine.rollout(prompts[part], **{**SAMPLED, "seed": seeds[part]})
    split, engine._core.seeds = engine._core.seeds, []
    engine.rollout(prompts, **{**SAMPLED, "seed": 7})
    assert split == engine._core.seeds == seeds
    assert len(set(seeds)) == 4


def test_an_engine_that_answered_or_took_a_policy_gives_the_gpu_back_when_it_is_told_to(make, student):
    engine = make(sleep=True)
    asyncio.run(engine.chat(EngineRequest((("user", "how", ()),), max_tokens=4)))
    engine.doze()
    engine.doze()
    engine.load_policy(PolicyRef(student, version=1))
    engine.doze()
    assert engine._core.diary == ["generate", "sleep", "wake", "label 1", "sleep"]


def test_an_engine_without_sleep_stays_awake_whatever_it_is_told(make):
    engine = make()
    engine.doze()
    assert engine._core.diary == []


def test_it_does_not_fall_asleep_under_a_request(make, make_prompt):
    engine = make(sleep=True)
    engine._core.free.clear()
    threads = [
        threading.Thread(target=engine.rollout, args=([make_prompt(text)],), kwargs=SAMPLED) for text in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    engine._core.free.set()
    for thread in threads:
        thread.join(5)
    diary = engine._core.diary
    asleep = False
    for line in diary:
        assert not (asleep and line == "generate"), diary
        asleep = line == "sleep" or (asleep and line != "wake")
    assert diary.count("generate") == 2


def test_an_engine_that_shows_the_model_other_pixels_does_not_start(make, monkeypatch):
    monkeypatch.setitem(WRONG, "by", torch.tensor(0.01))
    with pytest.raises(ModelError, match="its pixels differ from the trainer's"):
        make()


@pytest.mark.parametrize(
    "error", [ModelError("told"), Exception("Call to reset_mm_cache method failed"), KeyError("x")]
)
def test_an_engine_that_breaks_while_it_starts_leaves_no_processes_behind(make, monkeypatch, error):
    async def broken(self, weights):
        raise error

    closed = []
    monkeypatch.setattr(DiaryCore, "label", broken)
    monkeypatch.setattr(DiaryCore, "close", lambda self: closed.append(self))
    with pytest.raises(type(error)):
        make()
    assert len(closed) == 1


def test_bytes_that_a_model_scales_itself_are_the_same_picture():
    class Settings:
        image_mean, image_std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]

    theirs = torch.randint(0, 256, (6, 3 * 2 * 4 * 4), dtype=torch.uint8)
    mean, std = (torch.tensor(each)[:, None] for each in (Settings.image_mean, Settings.image_std))
    ours = ((theirs.reshape(6, 3, -1) / 255 - mean) / std).reshape(6, -1)
    assert same_pixels(ours, theirs, Settings)
    assert not same_pixels(ours, theirs.roll(1, 0), Settings)
    assert not same_pixels(ours, theirs[1:], Settings)


@pytest.mark.parametrize(("mode", "temperature", "top_p", "exact"), [
    ("raw_logprobs", 1.0, 0.9, True), ("raw_logprobs", 0.0, 1.0, True), ("raw_logprobs", 0.7, 1.0, False),
    ("processed_logprobs", 0.7, 1.0, True), ("processed_logprobs", 1.0, 0.9, False),
])  # fmt: skip
def test_log_probs_are_those_the_trainer_scores_or_the_mode_is_refused(mode, temperature, top_p, exact):
    assert (inexact(mode, temperature, top_p) == "") is exact
