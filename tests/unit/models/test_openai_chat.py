import asyncio
import base64
import contextlib
import json
import pickle
from dataclasses import replace

import pytest

from dpe_ray.errors import BadRequest, BudgetExceeded, ConfigError, ModelUnavailable, PoolError
from dpe_ray.models.call_budget import Calls
from dpe_ray.models.journal import read_journal
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.models.price import Price
from dpe_ray.ports import ChatRequest, Limits, Message
from dpe_ray.types import ImageRef

REQUEST = ChatRequest((Message("system", "Be brief."), Message("user", "Why?")), "judge", "item", "judge@1")
NOW = {"Retry-After": "0"}


def completion(n=1, **fields):
    choices = [
        {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": f"answer {i}"}}
        for i in reversed(range(n))
    ]
    usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": choices,
        "usage": usage,
        **fields,
    }


def reply(status=200, body=None, headers=None):
    return status, json.dumps(completion() if body is None else body), headers or {}


class Endpoint:
    """A local HTTP server that gives scripted replies, the last one for ever."""

    def __init__(self, *script, delay=0.0):
        self.script, self.delay = list(script), delay
        self.bodies, self.headers, self.in_flight, self.most = [], [], 0, 0

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                self.headers.append(headers)
                self.bodies.append(json.loads(await reader.readexactly(int(headers["content-length"]))))
                step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                self.in_flight += 1
                self.most = max(self.most, self.in_flight)
                await asyncio.sleep(self.delay)
                self.in_flight -= 1
                if step == "hang":
                    await asyncio.sleep(30)
                if step == "drop":
                    writer.close()
                    return
                if step == "cut":
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
                    writer.write(head + b'{"id"')
                    await writer.drain()
                    writer.close()
                    return
                status, text, extra = step
                lines = {"Content-Type": "application/json", "Content-Length": len(text.encode()), **extra}
                head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n{text}".encode())
                await writer.drain()
        writer.close()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.spec = ChatSpec("teacher", f"http://127.0.0.1:{port}/v1", "m", retries=2, timeout_s=5)
        return self

    async def __aexit__(self, *_):
        self.server.close()


async def test_a_plain_call_sends_the_request_and_reads_the_reply():
    async with Endpoint(reply(body=completion(2, system_fingerprint="v3"))) as endpoint:
        request = ChatRequest(REQUEST.messages, "judge", "item", "judge@1", n=2, temperature=0.5, seed=7, max_tokens=9)
        answer = await endpoint.spec.open().chat(request)
    assert answer.texts == ("answer 0", "answer 1")
    assert (answer.model, answer.prompt_tokens, answer.completion_tokens) == ("m@v3", 11, 3)
    assert endpoint.bodies == [{
        "model": "m", "n": 2, "temperature": 0.5, "top_p": 1.0, "max_tokens": 9, "seed": 7,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]}]  # fmt: skip


async def test_images_are_sent_before_the_text_as_data_uris(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    image = ImageRef("a" * 64, "0" * 16, 8, 8, "image/png", str(tmp_path / "a.png"))
    async with Endpoint(reply()) as endpoint:
        request = ChatRequest((Message("user", "Why?", (image,)),), "judge", "i", "judge@1")
        await endpoint.spec.open().chat(request)
        (tmp_path / "a.png").unlink()
        with pytest.raises(PoolError, match="cannot be read"):
            await endpoint.spec.open().chat(request)
    url = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    assert endpoint.bodies[0]["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Why?"}]  # fmt: skip


@pytest.mark.parametrize("failure", [
    reply(408, {}, NOW), reply(429, {}, NOW), reply(500, {}, NOW), reply(503, {}, NOW), "drop", "cut",
    (200, "<html>gateway</html>", {}), (200, "<html>gateway</html>", {"Content-Type": "text/html"}),
    reply(body={"error": "odd"}),
])  # fmt: skip
async def test_passing_failures_are_retried(failure):
    async with Endpoint(failure, reply()) as endpoint:
        assert (await endpoint.spec.open().chat(REQUEST)).texts == ("answer 0",)
        assert len(endpoint.bodies) == 2


async def test_an_endpoint_that_stays_down_is_unavailable_and_its_attempts_are_recorded(tmp_path):
    async with Endpoint(reply(503, {"error": {"message": "overloaded"}}, NOW)) as endpoint:
        spec = ChatSpec("teacher", endpoint.spec.base_url, "m", retries=2, journal=str(tmp_path))
        with pytest.raises(ModelUnavailable, match=r"models.teacher: http.* in 3 attempts .*503.*resume the run"):
            await spec.open().chat(REQUEST)
        assert len(endpoint.bodies) == 3
    [line] = read_journal(tmp_path)
    assert (line["outage"], line["attempts"]) == (True, 3)


async def test_a_slow_endpoint_is_an_outage():
    async with Endpoint("hang") as endpoint:
        spec = ChatSpec("teacher", endpoint.spec.base_url, "m", retries=0, timeout_s=0.2)
        with pytest.raises(ModelUnavailable, match="1 attempts"):
            await spec.open().chat(REQUEST)


async def test_nobody_listening_is_an_outage():
    async with Endpoint(reply()) as endpoint:
        spec = ChatSpec("teacher", endpoint.spec.base_url, "m", retries=0)
    with pytest.raises(ModelUnavailable, match="did not answer"):
        await spec.open().chat(REQUEST)


@pytest.mark.parametrize(("status", "told"), [(401, r"check the key in \$JUDGE_KEY"), (404, r"base_url and model \(")])
async def test_a_refusal_says_what_to_check(monkeypatch, status, told):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    async with Endpoint(reply(status, {"error": {"message": "no"}})) as endpoint:
        with pytest.raises(BadRequest, match=told):
            await replace(endpoint.spec, api_key_env="JUDGE_KEY").open().chat(REQUEST)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_refusal_is_not_retried(status):
    async with Endpoint(reply(status, {"error": {"message": "no such thing"}})) as endpoint:
        with pytest.raises(BadRequest, match=rf"{status}.*no such thing"):
            await endpoint.spec.open().chat(REQUEST)
        assert len(endpoint.bodies) == 1


async def test_too_few_answers_are_a_refusal():
    async with Endpoint(reply(body=completion(1))) as endpoint:
        with pytest.raises(BadRequest, match="does not support n"):
            await endpoint.spec.open().chat(ChatRequest(REQUEST.messages, "judge", "i", "judge@1", n=3))


async def test_retry_after_is_respected():
    async with Endpoint(reply(429, {}, {"Retry-After": "1.2"}), reply()) as endpoint:
        start = asyncio.get_running_loop().time()
        await endpoint.spec.open().chat(REQUEST)
        assert asyncio.get_running_loop().time() - start >= 1.2


async def test_one_client_keeps_its_concurrency():
    async with Endpoint(reply(), delay=0.02) as endpoint:
        model = ChatSpec("teacher", endpoint.spec.base_url, "m", concurrency=3).open()
        await asyncio.gather(*[model.chat(REQUEST) for _ in range(12)])
        assert endpoint.most == 3


async def test_another_policy_than_the_wanted_is_waited_for():
    async with Endpoint(
        reply(body=completion(system_fingerprint="v1")), reply(body=completion(system_fingerprint="v2"))
    ) as endpoint:
        spec = ChatSpec("student", endpoint.spec.base_url, "m", retries=1, policy_version=2)
        assert (await spec.open().chat(REQUEST)).model == "m@v2"


async def test_the_key_comes_from_the_environment_and_is_sent_as_bearer(monkeypatch):
    async with Endpoint(reply()) as endpoint:
        spec = ChatSpec("teacher", endpoint.spec.base_url, "m", api_key_env="SOME_TEACHER_KEY")
        monkeypatch.delenv("SOME_TEACHER_KEY", raising=False)
        with pytest.raises(ConfigError, match="SOME_TEACHER_KEY is empty"):
            spec.open()
        monkeypatch.setenv("SOME_TEACHER_KEY", "abc")
        await spec.open().chat(REQUEST)
    assert endpoint.headers[0]["authorization"] == "bearer abc"


def with_alternatives(*tops):
    choices = []
    for index, top in enumerate(tops):
        told = [{"token": t, "logprob": p, "bytes": None} for t, p in top or ()]
        content = [{"token": "A", "logprob": -0.1, "bytes": None, "top_logprobs": told}] if top is not None else None
        message = {"role": "assistant", "content": "A"}
        logprobs = {"content": content}
        choices.append({"index": index, "finish_reason": "stop", "message": message, "logprobs": logprobs})
    return reply(body=completion(choices=choices))


ALTERNATIVES = ChatRequest(REQUEST.messages, "mistake", "item", "mistake@1", top_logprobs=2, max_tokens=1)


async def test_alternatives_of_the_first_token_come_back_likeliest_first_and_stay_in_the_journal(tmp_path):
    async with Endpoint(with_alternatives([("B", -2.0), ("A", -0.25)])) as endpoint:
        spec = ChatSpec("teacher", endpoint.spec.base_url, "m", journal=str(tmp_path))
        answers = [await spec.open().chat(ALTERNATIVES) for _ in range(2)]
    assert [answer.first_token for answer in answers] == [((("A", -0.25), ("B", -2.0)),)] * 2
    assert [answer.cached for answer in answers] == [False, True]
    assert len(endpoint.bodies) == 1
    assert (endpoint.bodies[0]["logprobs"], endpoint.bodies[0]["top_logprobs"]) == (True, 2)


async def test_alternatives_are_neither_asked_for_nor_told_without_need():
    async with Endpoint(with_alternatives([("A", -0.25)])) as endpoint:
        assert (await endpoint.spec.open().chat(REQUEST)).first_token == ()
    assert not {"logprobs", "top_logprobs"} & set(endpoint.bodies[0])


@pytest.mark.parametrize("answer", [reply(), with_alternatives(None), with_alternatives([])])
async def test_an_endpoint_that_tells_no_alternatives_is_a_refusal(answer):
    async with Endpoint(answer) as endpoint:
        with pytest.raises(BadRequest, match="does not support"):
            await endpoint.spec.open().chat(ALTERNATIVES)
    assert len(endpoint.bodies) == 1


@pytest.mark.parametrize("holds", [True, False])
async def test_the_form_of_a_reply_is_sent_where_the_endpoint_can_hold_to_it_and_is_no_part_of_the_key(tmp_path, holds):
    schema = {"type": "object", "properties": {"cell": {"type": "string"}}}
    async with Endpoint(reply()) as endpoint:
        spec = replace(endpoint.spec, json_schema=holds, journal=str(tmp_path))
        await spec.open().chat(replace(REQUEST, reply_schema=schema))
        again = await spec.open().chat(REQUEST)
    assert again.cached
    named = {"type": "json_schema", "json_schema": {"name": "judge", "schema": schema}}
    assert endpoint.bodies[0].get("response_format") == (named if holds else None)


@pytest.mark.parametrize("served", ["v1", None, "fp_44709d6fcb"])
async def test_a_model_that_is_trained_must_state_the_wanted_version(served):
    async with Endpoint(reply(body=completion(system_fingerprint=served))) as endpoint:
        spec = ChatSpec("student", endpoint.spec.base_url, "m", retries=0, policy_version=0)
        with pytest.raises(ModelUnavailable, match="v0 is wanted"):
            await spec.open().chat(REQUEST)
        assert (await endpoint.spec.open().chat(REQUEST)).texts == ("answer 0",)


def test_a_spec_pickles():
    spec = ChatSpec("teacher", "http://host/v1", "m")
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize("limits", [Limits(tokens=15), Limits(usd=0.18)])
async def test_a_budget_counts_the_tokens_that_the_endpoint_reports_by_the_price_of_the_door(tmp_path, limits):
    calls = Calls()
    await calls.allow({"judge": limits})
    async with Endpoint(reply()) as endpoint:  # 11 + 3 tokens
        spec = replace(endpoint.spec, journal=str(tmp_path), budget=calls, price=Price(input=10_000.0, output=20_000.0))
        chat = spec.open()
        for seed in range(2):
            await chat.chat(replace(REQUEST, seed=seed))
        with pytest.raises(BudgetExceeded, match=r"budget\.roles\.judge\."):
            await chat.chat(replace(REQUEST, seed=2))
    assert len(endpoint.bodies) == 2
