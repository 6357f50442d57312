"""What breaks in vLLM's own process, with a stand-in for vLLM that raises as vLLM does; vLLM itself: tests/engines."""

import asyncio
import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
import torch

from dpe_ray.errors import ModelError
from dpe_ray.models import vllm_core
from dpe_ray.models.vllm_core import VllmCore
from dpe_ray.models.vllm_options import VllmOptions
from dpe_ray.models.vllm_worker import WholeReload


class Llm:
    """Answers every utility call, but for the `broken` one."""

    broken = ""
    left: ClassVar[list[list[str]]] = [[]]
    """Names of weights that were not loaded, of each worker."""

    @classmethod
    def from_engine_args(cls, args):
        if cls.broken == "start":
            raise Exception("Engine core initialization failed")
        return cls()

    def __getattr__(self, name):
        async def call(*_, **__):
            if name == Llm.broken:
                raise Exception(f"Call to {name} method failed: the worker\nran out of memory")
            return {"list_loras": {1}, "get_weight_version": "7", "collective_rpc": Llm.left}.get(name, True)

        return call


@pytest.fixture
def core(monkeypatch, student):
    monkeypatch.setattr(Llm, "broken", "")
    platform = SimpleNamespace(is_cpu=lambda: False, is_sleep_mode_available=lambda: True)
    for name, content in {
        "vllm": {"AsyncEngineArgs": dict},
        "vllm.platforms": {"current_platform": platform},
        "vllm.v1.engine.async_llm": {"AsyncLLM": Llm},
        "vllm.exceptions": {"VLLMError": type("VLLMError", (Exception,), {})},
        "vllm.lora.request": {"LoRARequest": lambda *fields: fields},
    }.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(vllm_core, "_prepare_environment", lambda options: None)
    monkeypatch.setattr(vllm_core, "_kill_behind_us", lambda: None)
    return lambda: VllmCore(student, VllmOptions())


CALLS = {
    "add_lora": lambda core: core.add_adapter("adapter"),
    "list_loras": lambda core: core.add_adapter("adapter"),
    "remove_lora": lambda core: core.remove_adapter(1),
    "collective_rpc": lambda core: core.load_weights("/tmp", ""),
    "reset_mm_cache": lambda core: core.label("7"),
    "reset_encoder_cache": lambda core: core.label("7"),
    "reset_prefix_cache": lambda core: core.label("7"),
    "update_weight_version": lambda core: core.label("7"),
    "get_weight_version": lambda core: core.label("7"),
    "sleep": lambda core: core.sleep(),
    "wake_up": lambda core: core.wake(),
}


@pytest.mark.parametrize("name", CALLS)
def test_whatever_breaks_in_vllms_process_is_a_model_error_of_one_line(core, monkeypatch, name):
    async def run():
        made = core()
        await made.add_adapter("adapter")
        monkeypatch.setattr(Llm, "broken", name)
        await CALLS[name](made)

    with pytest.raises(ModelError, match=f"engine vllm: .*Call to {name} method failed: the worker ran out") as caught:
        asyncio.run(run())
    assert "\n" not in str(caught.value)


def test_an_engine_that_does_not_start_is_a_model_error(core, monkeypatch):
    monkeypatch.setattr(Llm, "broken", "start")
    with pytest.raises(ModelError, match=r"does not start \(Engine core initialization failed"):
        core()


def test_weights_of_which_some_were_not_loaded_are_a_model_error_that_names_them(core, monkeypatch):
    monkeypatch.setattr(Llm, "left", [[], ["layers.0.mlp", "layers.1.mlp", "layers.2.mlp"]])

    async def run():
        await core().load_weights("/tmp", "")

    with pytest.raises(ModelError, match=r"not all there; layers\.0\.mlp, layers\.1\.mlp, \.\.\. kept what they were"):
        asyncio.run(run())


class Worker(WholeReload):
    """Reloads as vLLM's worker does: from a path to the model's own loader, whose answer is only warned of."""

    def __init__(self, quantization=None):
        self.model_config = SimpleNamespace(quantization=quantization)
        self.model = torch.nn.Sequential()
        self.model.plain = torch.nn.Linear(2, 2)
        self.model.adapted = torch.nn.Sequential()
        self.model.adapted.base_layer = torch.nn.Linear(2, 2, bias=False)
        type(self.model).load_weights = lambda model, weights: None if weights == "silent" else set(weights)

    def get_model(self):
        return self.model

    def reload_weights(self, weights_path):
        if not weights_path:
            raise OSError("no such place")
        self.model.load_weights(weights_path)


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setattr(torch.nn.Sequential, "load_weights", None, raising=False)
    return Worker


@pytest.mark.parametrize(("loaded", "left"), [
    (["plain.weight", "plain.bias", "adapted.weight"], []), (["plain.bias"], ["adapted.weight", "plain.weight"]),
    ("silent", []),
])  # fmt: skip
def test_a_worker_tells_the_weights_that_its_model_did_not_load(worker, loaded, left):
    made = worker()
    assert made.reload_whole(loaded) == left
    assert "load_weights" not in vars(made.model)


def test_of_quantized_weights_which_have_other_names_nothing_is_told(worker):
    assert worker("fp8").reload_whole(["plain.bias"]) == []


def test_a_reload_that_breaks_leaves_the_models_own_loader(worker):
    made = worker()
    with pytest.raises(OSError, match="no such place"):
        made.reload_whole("")
    assert "load_weights" not in vars(made.model)
