"""Replies in OpenAI's form, as the endpoints of this run write them."""

import base64
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dpe_ray.models.openai_api import ChatBody, EmbeddingBody
from dpe_ray.types import Completion

_LEAST_LOGPROB = -9999.0
"""What OpenAI's API writes for a token that cannot be: JSON knows no infinity."""


def chat_reply(completions: Sequence[Completion], body: ChatBody, version: int) -> dict[str, Any]:
    """A `chat.completion`; the policy version is its system_fingerprint, as `v3`."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": completion.text},
            "finish_reason": _ended(completion),
            "logprobs": _logprobs(completion, body),
        }
        for index, completion in enumerate(completions)
    ]
    return _head("chat.completion", body, version) | {"choices": choices, "usage": _usage(completions)}


def chat_stream(completions: Sequence[Completion], body: ChatBody, version: int) -> bytes:
    """The same as server-sent events: a whole text at once, since all choices of a batch end together."""
    head = _head("chat.completion.chunk", body, version)
    usage = bool(body.stream_options and body.stream_options.include_usage)
    if usage:
        head["usage"] = None
    chunks = [head | {"choices": [choice]} for choice in _deltas(completions, body)]
    if usage:
        chunks.append(head | {"choices": [], "usage": _usage(completions)})
    events = [*(json.dumps(chunk, ensure_ascii=False) for chunk in chunks), "[DONE]"]
    return "".join(f"data: {event}\n\n" for event in events).encode()


def embedding_reply(vectors: Sequence[Sequence[float]], body: EmbeddingBody) -> dict[str, Any]:
    """A list of embeddings, in the order of the texts; base64 holds little-endian 32-bit floats."""
    words = sum(len(text.split()) for text in body.texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": words, "total_tokens": words}
    return {"object": "list", "data": data, "model": body.model, "usage": usage}


def error_body(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    param, colon, _ = message.partition(":")
    named = param if colon and param.replace("_", "").replace(".", "").isalnum() else None
    return {"error": {"message": message, "type": kind, "param": named, "code": code}}


def models_body(model: str) -> dict[str, Any]:
    """`GET /v1/models`."""
    return {"object": "list", "data": [{"id": model, "object": "model", "created": 0, "owned_by": "dpe-ray"}]}


def _head(kind: str, body: ChatBody, version: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": body.model,
        "system_fingerprint": f"v{version}",
    }


def _deltas(completions: Sequence[Completion], body: ChatBody) -> Iterator[dict[str, Any]]:
    for index, completion in enumerate(completions):
        said = {"role": "assistant", "content": completion.text}
        yield {"index": index, "delta": said, "finish_reason": None, "logprobs": _logprobs(completion, body)}
        yield {"index": index, "delta": {}, "finish_reason": _ended(completion), "logprobs": None}


def _usage(completions: Sequence[Completion]) -> dict[str, int]:
    prompt = completions[0].prompt_tokens if completions else 0
    written = sum(len(c.token_ids) or len(c.text.split()) for c in completions)  # words where an engine has no tokens
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _ended(completion: Completion) -> str:
    return "stop" if completion.finished else "length"


def _logprobs(completion: Completion, body: ChatBody) -> dict[str, Any] | None:
    if not body.logprobs:
        return None
    length = max(len(completion.logprobs), len(completion.top_logprobs))
    return {"content": [_token(completion, place) for place in range(length)], "refusal": None}


def _token(completion: Completion, place: int) -> dict[str, Any]:
    """One token with its alternatives; an engine without tokens of its own chose the likeliest."""
    top = completion.top_logprobs[place] if completion.top_logprobs else ()
    if completion.tokens:
        chosen = completion.tokens[place], completion.logprobs[place]
    else:
        chosen = top[0] if top else (f"token_id:{completion.token_ids[place]}", completion.logprobs[place])
    return _pair(*chosen) | {"top_logprobs": [_pair(*alternative) for alternative in top]}


def _pair(token: str, logprob: float) -> dict[str, Any]:
    # a token may be a part of a character: then its text holds a replacement, and its bytes are unknown
    known = None if "\ufffd" in token else list(token.encode())
    return {"token": token, "logprob": max(logprob, _LEAST_LOGPROB), "bytes": known}


def _encoded(vector: Sequence[float], encoding: str) -> list[float] | str:
    if encoding == "float":
        return [float(value) for value in vector]
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
