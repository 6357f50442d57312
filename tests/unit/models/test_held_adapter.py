"""Adapters that take each other's place decode as if they had been loaded anew."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpe_ray.errors import ModelError
from dpe_ray.models.held_adapter import HeldAdapter
from dpe_ray.models.policy import load_policy, render, save_policy
from dpe_ray.types import PolicyRef


@pytest.fixture(scope="module")
def adapters(student, tmp_path_factory):
    """Three adapters of one form and one of another rank."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, rank in ((1, 4), (2, 4), (3, 4), (4, 8)):
        adapted = load_policy(PolicyRef(student), trainable="lora", lora_rank=rank)
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, parameter in adapted.model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.3)
        save_policy(adapted.model, adapted.processor, folder / str(seed))
    return [str(folder / str(seed)) for seed in (1, 2, 3, 4)]


def held(student, adapter, dtype=torch.float32):
    ref = PolicyRef(student, adapter)
    return HeldAdapter(ref, load_policy(ref).model.to(dtype))


def put(holder, student, adapter):
    weights = holder.read(PolicyRef(student, adapter))
    assert weights is not None
    holder.exchange(weights)


def logits(model, student):
    inputs = render(load_policy(PolicyRef(student)).processor, "What colour?", [])
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_exchanged_adapter_gives_the_logits_of_a_loaded_one(student, adapters, dtype):
    holder = held(student, adapters[0], dtype)
    first = logits(holder.model, student)
    put(holder, student, adapters[1])
    got = logits(holder.model, student)
    assert torch.equal(got, logits(held(student, adapters[1], dtype).model, student))
    assert not torch.equal(got, first)


def test_many_exchanges_leave_no_rounding_behind(student, adapters):
    holder = held(student, adapters[0])
    first = logits(holder.model, student)
    for _ in range(20):
        put(holder, student, adapters[1])
        put(holder, student, adapters[2])
    put(holder, student, adapters[0])
    assert torch.equal(logits(holder.model, student), first)


def test_another_form_or_base_is_none_of_its_business(student, adapters, tmp_path):
    holder = held(student, adapters[0])
    assert holder.read(PolicyRef(student, adapters[3])) is None
    assert holder.read(PolicyRef(student)) is None
    assert holder.read(PolicyRef(str(tmp_path), adapters[1])) is None
    assert holder.read(PolicyRef(student, adapters[1], revision="next")) is None


@pytest.mark.parametrize("wrong", ["missing", "cut", "fewer", "larger"])
def test_a_broken_adapter_is_refused_before_anything_changes(student, adapters, tmp_path, wrong):
    holder = held(student, adapters[0])
    first = logits(holder.model, student)
    (tmp_path / "adapter_config.json").write_text((Path(adapters[1]) / "adapter_config.json").read_text())
    target, weights = tmp_path / "adapter_model.safetensors", load_file(Path(adapters[1]) / "adapter_model.safetensors")
    name = sorted(weights)[0]
    if wrong == "fewer":
        save_file({key: weight for key, weight in weights.items() if key != name}, target)
    elif wrong == "larger":
        save_file(weights | {name: torch.zeros(99, 3)}, target)
    elif wrong == "cut":
        target.write_bytes((Path(adapters[1]) / "adapter_model.safetensors").read_bytes()[:100])
    with pytest.raises(ModelError, match="policy with adapter"):
        holder.read(PolicyRef(student, str(tmp_path)))
    assert torch.equal(logits(holder.model, student), first)


def test_modules_that_are_replaced_whole_are_left_to_a_load(student, adapters, tmp_path):
    adapted = load_policy(PolicyRef(student), trainable="lora", projector=True)
    save_policy(adapted.model, adapted.processor, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"]
    holder = held(student, str(tmp_path))
    assert holder.read(PolicyRef(student, adapters[0])) is None
    assert holder.read(PolicyRef(student, str(tmp_path))) is None
