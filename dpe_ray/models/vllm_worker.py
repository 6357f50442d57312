"""What runs inside vLLM's workers: they load this class into their own. Knows no vLLM by import."""

from collections.abc import Iterable
from typing import Any


class WholeReload:
    """Beside a worker's own methods, which `self` has too."""

    def reload_whole(self, weights_path: str) -> list[str]:
        """As vLLM's `reload_weights`, which only warns of weights that were not loaded: their names come back, sorted.

        None are told where a model class does not say what it loaded, and for quantized weights.
        """
        worker: Any = self
        model = worker.get_model()
        wanted = {name.replace(".base_layer.", ".") for name, _ in model.named_parameters()}  # of layers with LoRA
        loaded: set[str] = set()
        load = model.load_weights

        def noted(weights: Iterable[tuple[str, Any]]) -> Any:
            told = load(weights)
            loaded.update(wanted if told is None else told)
            return told

        model.load_weights = noted
        try:
            worker.reload_weights(weights_path=weights_path)
        finally:
            del model.load_weights
        return [] if worker.model_config.quantization else sorted(wanted - loaded)
