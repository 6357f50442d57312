"""A text encoder on plain transformers: the engine behind embeddings, on CPUs and GPUs alike.

Needs torch and transformers only.
"""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import torch

from dpe_ray.errors import BadRequest, ConfigError, ModelError

_DEFAULTS: dict[str, Any] = {"threads": 1, "batch": 64, "device": "cpu"}


class TextEncoder:
    """An Embedder: the mean of the last hidden states over a text's tokens, scaled to length 1.

    Options: `threads` of torch in this process, `batch` texts per forward pass, `device`. A text's vector depends on
    its neighbours by rounding alone (~1e-7): padding is masked.
    """

    def __init__(self, source: str, options: dict[str, Any]) -> None:
        """Load a Hugging Face encoder with its tokenizer. Raises ConfigError for an option, ModelError for weights."""
        if unknown := sorted(set(options) - set(_DEFAULTS)):
            raise ConfigError(f"engine encoder: no option {unknown[0]!r}; there are {', '.join(_DEFAULTS)}")
        self._options = _DEFAULTS | options
        torch.set_num_threads(self._options["threads"])
        self._lock = threading.Lock()  # fast tokenizers refuse two threads at once
        self._tokenizer, model = _load(source)
        self._model = model.to(self._options["device"]).eval()

    async def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """As `Embedder.embed`: [N][D]. Raises BadRequest for an empty text and for one beyond the context."""
        return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[tuple[float, ...]]:
        if not texts:
            return []
        with self._lock:
            tokens = self._tokenizer(texts, return_token_type_ids=False)["input_ids"]
            self._check(tokens)
            vectors: list[tuple[float, ...]] = [()] * len(texts)
            by_length = sorted(range(len(texts)), key=lambda i: len(tokens[i]))  # little padding
            for start in range(0, len(texts), self._options["batch"]):
                part = by_length[start : start + self._options["batch"]]
                for i, vector in zip(part, self._forward([tokens[i] for i in part]), strict=True):
                    vectors[i] = tuple(vector)
        return vectors

    def _check(self, tokens: Sequence[Sequence[int]]) -> None:
        context = getattr(self._model.config, "max_position_embeddings", self._tokenizer.model_max_length)
        limit = min(self._tokenizer.model_max_length, context)
        for i, ids in enumerate(tokens):
            if not 0 < len(ids) <= limit:
                raise BadRequest(f"input[{i}]: {len(ids)} tokens; give a text of 1 to {limit}")

    @torch.inference_mode()
    def _forward(self, tokens: Sequence[Sequence[int]]) -> list[list[float]]:
        """[N][D] from the token ids of N texts."""
        batch = self._tokenizer.pad({"input_ids": list(tokens)}, return_attention_mask=True, return_tensors="pt").to(
            self._model.device
        )
        hidden = self._model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1)
        # the sum points where the mean does, and length is scaled away
        summed = (hidden * mask).sum(dim=1)
        vectors: list[list[float]] = torch.nn.functional.normalize(summed, dim=-1).tolist()
        return vectors


def _load(source: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model = AutoModel.from_pretrained(source, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"encoder {source}: cannot be loaded ({reason}); give a Hugging Face text encoder") from error
    if tokenizer.pad_token is None:
        raise ModelError(f"encoder {source}: its tokenizer has no padding token; give a text encoder with one")
    return tokenizer, model
