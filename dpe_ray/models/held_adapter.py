"""An adapter that is exchanged in place: its base is read and placed once, however often a round publishes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpe_ray.errors import ModelError
from dpe_ray.models.quantized import is_quantized
from dpe_ray.types import PolicyRef

_ACTIVE = "default"
"""PEFT's name for the adapter of a model that has one."""


class HeldAdapter:
    """A base with an adapter on its linear layers.

    In 32 bit, and none of it in 4, the adapter is added to the weights, since the sums stay equal and decoding has
    fewer of them; what it is added to is kept beside them, so that a thousand exchanges leave no rounding behind.
    """

    def __init__(self, ref: PolicyRef, adapted: Any) -> None:
        """`adapted`: the PEFT model that `load_policy` gave for `ref`."""
        import torch
        from peft.tuners.tuners_utils import BaseTunerLayer

        self._ref, self._form = ref, _form(ref.adapter)
        self._layers: dict[str, Any] = {
            name: module for name, module in adapted.named_modules() if isinstance(module, BaseTunerLayer)
        }
        self._slots: dict[str, Any] = {
            name.replace(f".{_ACTIVE}.", "."): weight
            for name, weight in adapted.named_parameters()
            if f".{_ACTIVE}." in name
        }
        self._plain: dict[str, Any] = {}
        if adapted.dtype == torch.float32 and not is_quantized(adapted):
            self._plain = {name: layer.get_base_layer().weight.detach().clone() for name, layer in self._layers.items()}
            adapted = adapted.merge_and_unload()
        self.model: Any = adapted
        """What decodes."""

    def read(self, ref: PolicyRef) -> Mapping[str, Any] | None:
        """Weights for `exchange`; None when `ref` has another base or an adapter of another form.

        Raises ModelError for an adapter that cannot be read or does not fit its own configuration.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if (ref.base, ref.revision) != (self._ref.base, self._ref.revision) or not ref.adapter:
            return None
        try:
            if self._form is None or _form(ref.adapter) != self._form:
                return None
            weights = load_file(Path(ref.adapter) / "adapter_model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"policy with adapter {ref.adapter}: cannot be loaded ({error})") from error
        if {name: tuple(w.shape) for name, w in weights.items()} != {n: tuple(w.shape) for n, w in self._slots.items()}:
            raise ModelError(f"policy with adapter {ref.adapter}: its weights are not those of its adapter_config.json")
        return weights

    def exchange(self, weights: Mapping[str, Any]) -> None:
        """Put another adapter into place; nothing may decode meanwhile, nor after it broke until another one succeeds.

        It works on one layer after the other: sums of all at once would be a second copy of the weights. What breaks
        half-way (a GPU without room for a sum) leaves some layers of either adapter.
        """
        for name, weight in weights.items():
            self._slots[name].data.copy_(weight)
        for name, plain in self._plain.items():
            layer = self._layers[name]
            layer.get_base_layer().weight.data.copy_(plain + layer.get_delta_weight(_ACTIVE))


def _form(adapter: str) -> dict[str, Any] | None:
    """What has to be equal for one adapter to take the place of another; None when modules are replaced whole."""
    read: dict[str, Any] = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    return None if read.get("modules_to_save") else read
