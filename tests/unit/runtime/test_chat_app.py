"""The shell around an engine, with no Serve around it: whatever arrives has an answer, and a status that fits."""

import asyncio
import json

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.errors import BadRequest
from dpe_ray.runtime import chat_app
from dpe_ray.types import Completion, PolicyRef

ASK = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


class Engine:
    version = 0

    async def chat(self, request):
        if request.messages[-1][1] == "refuse":
            raise BadRequest("messages: \ud800 is no text")
        return [Completion("Because.")] * request.n


@pytest.fixture(scope="module")
def shell():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_app, "create_engine", lambda *engine: Engine())
        patch.setattr(chat_app, "published", lambda app: None)
        return chat_app.ChatShell("m", "app", ("any", "", {}))


def answer(shell, body, path="chat/completions"):
    status, content = asyncio.run(shell.answer(path, body))
    return status, json.loads(content)


def http(parts, read):
    """A request whose body comes in `parts`; notes in `read` how many were taken."""

    async def receive():
        read.append(1)
        return {"type": "http.request", "body": next(parts), "more_body": True}

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    return Request(scope, receive)


@pytest.mark.parametrize("body", [
    b"", b"no json", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'{"n":' + b"9" * 10_000 + b"}", b'"\\ud800"',
    b'{"\\ud800": 1}', json.dumps({**ASK, "model": "\ud800"}).encode(),
    json.dumps(ASK).replace('"Why?"', '[' * 3000 + ']' * 3000).encode(),
    json.dumps({**ASK, "response_format": 7}).replace("7", '{"a":' * 5000 + "1" + "}" * 5000).encode(),
])  # fmt: skip
def test_a_body_that_is_no_request_is_a_400_of_one_line(shell, body):
    for path in ("chat/completions", "embeddings"):
        status, told = answer(shell, body, path)
        assert status == 400
        assert "\n" not in told["error"]["message"]
        assert told["error"]["type"] == "invalid_request_error"


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_a_400(shell, body):
    assert answer(shell, body)[0] == 400


def test_a_message_that_is_no_unicode_reaches_the_client(shell):
    status, told = answer(shell, json.dumps({**ASK, "messages": [{"role": "user", "content": "refuse"}]}).encode())
    assert (status, told["error"]["message"]) == (400, "messages: ? is no text")


def test_a_body_that_is_too_large_is_a_413_over_ray_and_over_http(shell, monkeypatch):
    body = json.dumps(ASK).encode()
    monkeypatch.setattr(chat_app, "MAX_BODY_BYTES", len(body))
    assert answer(shell, body)[0] == 200
    status, told = answer(shell, body + b" ")
    assert status == 413
    assert told["error"]["message"].startswith(f"body: more than {len(body)} bytes")
    endless, read = iter(lambda: b" " * 10, None), []
    reply = asyncio.run(shell.post("chat/completions", http(endless, read)))
    assert reply.status_code == 413
    assert len(read) == len(body) // 10 + 1


def test_a_body_that_never_comes_to_an_end_is_a_408(shell, monkeypatch):
    async def never():
        await asyncio.Event().wait()

    monkeypatch.setattr(chat_app, "BODY_WITHIN_S", 0.05)
    reply = asyncio.run(shell.post("chat/completions", Request({"type": "http", "headers": []}, never)))
    assert (reply.status_code, json.loads(reply.body)["error"]["param"]) == (408, "body")


def test_a_replica_that_starts_later_serves_what_was_published(monkeypatch):
    engine, policies = Engine(), [PolicyRef("/a/student", version=3), PolicyRef("/a/student", version=4)]
    monkeypatch.setattr(engine, "load_policy", lambda policy: setattr(engine, "version", policy.version), raising=False)
    monkeypatch.setattr(chat_app, "create_engine", lambda *_: engine)
    # the board is written again while the first policy loads
    monkeypatch.setattr(chat_app, "published", lambda app: policies.pop(0) if len(policies) > 1 else policies[0])
    chat_app.ChatShell("m", "app", ("any", "", {}))
    assert engine.version == 4


def test_an_engine_that_can_give_its_gpu_back_is_told_to_and_others_are_left_alone(shell, monkeypatch):
    told = []
    asyncio.run(shell.doze())
    monkeypatch.setattr(Engine, "doze", lambda self: told.append("doze"), raising=False)
    asyncio.run(shell.doze())
    assert told == ["doze"]
