"""What breaks in vLLM's own process, with a stand-in for vLLM that raises as vLLM does; vLLM itself: tests/engines."""

import asyncio
import sys
from types import ModuleType, SimpleNamespace

import pytest

from dpe_ray.errors import ModelError
from dpe_ray.models import vllm_core
from dpe_ray.models.vllm_core import VllmCore
from dpe_ray.models.vllm_options import VllmOptions


class Llm:
    """Answers every utility call, but for the `broken` one."""

    broken = ""

    @classmethod
    def from_engine_args(cls, args):
        if cls.broken == "start":
            raise Exception("Engine core initialization failed")
        return cls()

    def __getattr__(self, name):
        async def call(*_, **__):
            if name == Llm.broken:
                raise Exception(f"Call to {name} method failed: the worker\nran out of memory")
            return {"list_loras": {1}, "get_weight_version": "7"}.get(name, True)

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
