import base64
import json
import math
import struct

from dpe_ray.models.openai_api import read_chat, read_embedding
from dpe_ray.models.openai_reply import chat_reply, chat_stream, embedding_reply, error_body
from dpe_ray.types import Completion

COMPLETIONS = [Completion("a b", (1, 2), (-0.5, -1.0), True, 7), Completion("c", (3,), (-2.0,), False, 7)]


def body(**more):
    sent = {"model": "m", "messages": [{"role": "user", "content": "Why?"}], **more}
    return read_chat(json.dumps(sent).encode(), "m")


def test_a_reply_states_version_lengths_and_why_it_ended():
    reply = chat_reply(COMPLETIONS, body(logprobs=True), 4)
    assert (reply["model"], reply["system_fingerprint"]) == ("m", "v4")
    assert [c["finish_reason"] for c in reply["choices"]] == ["stop", "length"]
    assert reply["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert reply["choices"][0]["logprobs"]["content"][1]["logprob"] == -1.0
    assert chat_reply(COMPLETIONS, body(), 4)["choices"][0]["logprobs"] is None


def test_tokens_come_with_text_bytes_and_alternatives():
    top = ((("A", -0.1), ("B", -2.5)), (("\ufffd", -0.2), ("C", -math.inf)))
    completion = Completion("BC", (5, 6), (-2.5, -3.0), True, 7, top_logprobs=top, tokens=("B", "C"))
    ask = body(logprobs=True, top_logprobs=2)
    first, second = chat_reply([completion], ask, 0)["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["logprob"], first["bytes"]) == ("B", -2.5, [66])
    assert [(t["token"], t["logprob"]) for t in first["top_logprobs"]] == [("A", -0.1), ("B", -2.5)]
    assert second["top_logprobs"][0]["bytes"] is None
    assert second["top_logprobs"][1]["logprob"] == -9999.0
    assert "Infinity" not in json.dumps(second)


def test_an_engine_without_tokens_may_tell_alternatives_of_the_first():
    completion = Completion("A", top_logprobs=((("A", -0.1), ("B", -2.5)),))
    [token] = chat_reply([completion], body(logprobs=True, top_logprobs=2), 0)["choices"][0]["logprobs"]["content"]
    assert (token["token"], token["logprob"]) == ("A", -0.1)
    assert len(token["top_logprobs"]) == 2


def events(stream):
    parts = stream.decode().split("\n\n")
    assert parts.pop() == ""
    assert parts.pop() == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_a_stream_says_the_same_in_chunks():
    chunks = events(chat_stream(COMPLETIONS, body(stream=True), 4))
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    said = ["".join(c["delta"].get("content", "") for c in choices if c["index"] == index) for index in (0, 1)]
    assert said == ["a b", "c"]
    ended = [c["finish_reason"] for c in choices if c["finish_reason"]]
    assert ended == ["stop", "length"]
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert {c["system_fingerprint"] for c in chunks} == {"v4"}
    assert len({c["id"] for c in chunks}) == 1
    assert all("usage" not in c for c in chunks)


def test_a_stream_ends_with_the_usage_when_asked():
    *others, last = events(chat_stream(COMPLETIONS, body(stream=True, stream_options={"include_usage": True}), 4))
    assert {c["usage"] for c in others} == {None}
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def test_embeddings_come_as_floats_or_as_little_endian_base64():
    vectors = [(1.0, -0.5), (0.25, 3.0)]
    ask = {"model": "m", "input": ["one two", "three"]}
    plain, packed = (
        read_embedding(json.dumps(ask | more).encode(), "m") for more in ({}, {"encoding_format": "base64"})
    )
    reply = embedding_reply(vectors, plain)
    assert [(d["index"], d["embedding"]) for d in reply["data"]] == [(0, [1.0, -0.5]), (1, [0.25, 3.0])]
    assert reply["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    encoded = embedding_reply(vectors, packed)["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(encoded)) == (1.0, -0.5)


def test_an_error_names_its_parameter():
    error = error_body("messages.0.role: no such role", "invalid_request_error")["error"]
    assert (error["param"], error["type"], error["code"]) == ("messages.0.role", "invalid_request_error", None)
    assert error_body("it is down", "server_error")["error"]["param"] is None
