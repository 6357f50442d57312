"""Qwen2.5-VL in vLLM: pictures of several sizes, m-RoPE, and an adapter on tower, merger and language model."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from engines.tiny_qwen import save_tiny_qwen
from PIL import Image

from dpe_ray.models.policy import load_policy, save_policy
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.models.vllm_engine import VllmEngine
from dpe_ray.ports import EngineRequest
from dpe_ray.types import Completion, PolicyRef

LANGUAGE = r"language_model\..*\.(q|v|down)_proj"
TOWER, PROJECTOR = r"visual\.blocks\..*\.(qkv|proj)", r"visual\.merger\.mlp\.[02]"
ADAPTERS = {"language": LANGUAGE, "tower": TOWER, "projector": PROJECTOR, "all": f"{LANGUAGE}|{TOWER}|{PROJECTOR}"}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def adapters(qwen: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter for each of `ADAPTERS`."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapters")
    for name, targets in ADAPTERS.items():
        policy = load_policy(PolicyRef(qwen))
        settings = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=f".*({targets})")
        model = get_peft_model(policy.model, settings)
        torch.manual_seed(1)
        for weight_name, weight in model.named_parameters():
            if "lora_" in weight_name:
                torch.nn.init.normal_(weight, std=0.2)
        save_policy(model, policy.processor, folder / name)
    return folder


@pytest.fixture(scope="module")
def engine(qwen: str) -> Iterator[VllmEngine]:
    engine = VllmEngine(qwen, {"enable_tower_connector_lora": True, "max_lora_rank": 8})
    yield engine
    engine.close()


def picture(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(file, "PNG")
    return file.getvalue()


def asks() -> list[EngineRequest]:
    one, wide, tall = picture(64, 64), picture(112, 56), picture(60, 110)
    asked = [("is the circle left", (one,)), ("how many red", (wide, tall)), ("is the square up", ()), ("up", (tall,))]
    return [EngineRequest((("user", *each),), temperature=0.0, max_tokens=12, logprobs=True) for each in asked]


async def answers(engine: VllmEngine | TransformersEngine) -> list[Completion]:
    return [answer[0] for answer in await asyncio.gather(*[engine.chat(ask) for ask in asks()])]


@pytest.mark.parametrize("adapter", ["", *ADAPTERS])
async def test_greedy_tokens_and_log_probs_are_those_of_transformers(
    engine: VllmEngine, qwen: str, adapters: Path, adapter: str
) -> None:
    plain = TransformersEngine(qwen, {})
    engine.load_policy(PolicyRef(qwen))
    base = await answers(engine)
    ref = PolicyRef(qwen, str(adapters / adapter) if adapter else "", 1)
    assert engine.load_policy(ref) == plain.load_policy(ref) == 1
    ours, theirs = await answers(engine), await answers(plain)
    assert [(c.token_ids, c.prompt_tokens) for c in ours] == [(c.token_ids, c.prompt_tokens) for c in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
    changed = [one.logprobs != pytest.approx(other.logprobs, abs=1e-2) for one, other in zip(ours, base, strict=True)]
    reads_pictures = [bool(images) for ask in asks() for _, _, images in ask.messages]
    assert changed == [bool(adapter) and (adapter in ("language", "all") or shown) for shown in reads_pictures]
