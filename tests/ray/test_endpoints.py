"""Everything that the endpoints offer, asked by the official client, unchanged."""

import asyncio
import base64
import hashlib
import http.server
import io
import os
import threading
from functools import partial

import numpy as np
import openai
import pytest
from PIL import Image
from ray.exceptions import RayError

from dpe_ray.config import ModelConfig
from dpe_ray.errors import BadRequest, ClusterError, ModelUnavailable
from dpe_ray.models.openai_api import MAX_BODY_BYTES
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.models.openai_embed import EmbedSpec
from dpe_ray.ports import ChatRequest, Message
from dpe_ray.runtime import head_node, serve_app
from dpe_ray.runtime.listening import Listen, free_port, wait_until_ready
from dpe_ray.runtime.serve_route import ServeRoute

ASK = {"messages": [{"role": "user", "content": "What colour?"}]}
KEY = "a-key-of-this-test"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """URL and folder of a server of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "open").mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "open" / "a.png")
    Image.new("RGB", (8, 8), "blue").save(folder / "closed.png")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


@pytest.fixture(scope="module")
def urls(student_url, tmp_path_factory, pictures):
    """A small student behind loopback; an engine of another package, and an oracle that is always out, behind a key."""
    truth = tmp_path_factory.mktemp("down") / "truth"
    truth.write_text("")
    echo = ModelConfig(source="any", engine="echo", num_cpus=0.1)
    down = ModelConfig(source=str(truth), engine="oracle", options={"outage_rate": 1.0}, num_cpus=0.1)
    locked = Listen(key=KEY, image_urls=(f"{pictures[0]}/open/",))
    served = serve_app.serve_models({"echo": echo, "down": down}, listen=locked)
    for one in served.values():
        wait_until_ready(one.url)
    yield {"student": student_url} | {name: one.url for name, one in served.items()}
    serve_app.take_down(["echo", "down"])


@pytest.fixture
def small(urls):
    return openai.OpenAI(base_url=urls["student"], api_key="none", max_retries=0)


@pytest.fixture
def echo(urls):
    return openai.OpenAI(base_url=urls["echo"], api_key=KEY, max_retries=0)


def test_alternatives_of_every_token_come_likeliest_first(small):
    ask = {**ASK, "model": "student", "temperature": 0, "max_tokens": 5, "logprobs": True}
    tokens = small.chat.completions.create(**ask, top_logprobs=20).choices[0].logprobs.content
    assert len(tokens) == 5
    for token in tokens:
        values = [alternative.logprob for alternative in token.top_logprobs]
        assert len(values) == 20
        assert values == sorted(values, reverse=True)
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, pytest.approx(values[0]))
    bare = small.chat.completions.create(**ask).choices[0].logprobs.content
    assert [(t.token, t.top_logprobs) for t in bare] == [(t.token, []) for t in tokens]


async def test_our_own_client_reads_the_alternatives_of_the_first_token(urls):
    request = ChatRequest((Message("user", "Which?"),), "mistake", "i", "mistake@1", n=2, max_tokens=2, top_logprobs=7)
    spec = ChatSpec("student", urls["student"], "student", retries=0, policy_version=0, route=ServeRoute("student"))
    first, second = (await spec.open().chat(request)).first_token
    assert len(first) == 7
    assert first == second
    assert sum(np.exp([value for _, value in first])) <= 1.0001


def test_a_stop_text_ends_the_reply(small):
    ask = {**ASK, "model": "student", "temperature": 0, "max_tokens": 12}
    whole = small.chat.completions.create(**ask).choices[0].message.content
    stop = whole[3:5]
    assert small.chat.completions.create(**ask, stop=stop).choices[0].message.content == whole[: whole.index(stop)]


def test_a_stream_says_what_a_plain_reply_says(small):
    ask = {**ASK, "model": "student", "temperature": 0, "max_tokens": 6, "n": 2}
    plain = small.chat.completions.create(**ask)
    said, usage, ended = ["", ""], [], []
    for chunk in small.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        usage.append(chunk.usage)
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            ended += [choice.finish_reason] if choice.finish_reason else []
    assert said == [choice.message.content for choice in plain.choices]
    assert ended == [choice.finish_reason for choice in plain.choices]
    assert usage[:-1] == [None] * (len(usage) - 1)
    assert usage[-1] == plain.usage


async def test_the_asynchronous_client_streams_too(urls):
    client = openai.AsyncOpenAI(base_url=urls["echo"], api_key=KEY, max_retries=0)
    chunks = [chunk async for chunk in await client.chat.completions.create(**ASK, model="echo", stream=True)]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "0: What colour?"


def test_a_wrong_request_for_a_stream_is_a_plain_400(small):
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        small.chat.completions.create(**ASK, model="student", stream=True, max_tokens=100_000)


SCHEMA = {"name": "colour", "strict": True, "schema": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("form", [{"type": "json_object"}, {"type": "json_schema", "json_schema": SCHEMA}])
def test_a_form_of_reply_reaches_engines_and_those_that_cannot_hold_to_it_refuse(small, echo, form):
    reply = echo.chat.completions.create(**ASK, model="echo", response_format=form)
    assert "'type'" in reply.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="response_format: must be text") as caught:
        small.chat.completions.create(**ASK, model="student", response_format=form)
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(("texts", "wanted"), [
    ("cab", [[1, 1, 1]]), (["cab", "x", "bb"], [[1, 1, 1], [0, 0, 0], [0, 2, 0]]),
])  # fmt: skip
def test_embeddings_come_in_the_order_of_the_texts(echo, texts, wanted):
    for encoding in ({}, {"encoding_format": "float"}):
        data = echo.embeddings.create(model="echo", input=texts, **encoding).data
        assert [d.embedding for d in data] == wanted
    packed = echo.embeddings.create(model="echo", input=texts, encoding_format="base64").data
    assert [np.frombuffer(base64.b64decode(d.embedding), "<f4").tolist() for d in packed] == wanted


@pytest.mark.parametrize(
    "wrong", [{"dimensions": 2}, {"input": []}, {"model": "other"}, {"extra_body": {"truncate": 1}}]
)
def test_a_wrong_embedding_request_is_a_400(echo, wrong):
    with pytest.raises(openai.BadRequestError):
        echo.embeddings.create(**{"model": "echo", "input": "cab", **wrong})


def test_an_engine_without_embeddings_says_so(small):
    with pytest.raises(openai.BadRequestError, match="gives no embeddings"):
        small.embeddings.create(model="student", input="cab")


async def test_our_own_embedder_works_over_ray_and_over_http(urls, monkeypatch):
    monkeypatch.setenv("KEY_OF_ECHO", KEY)
    over_http = EmbedSpec("echo", urls["echo"], "echo", api_key_env="KEY_OF_ECHO", batch=2)
    over_ray = EmbedSpec("echo", urls["echo"], "echo", batch=2, route=ServeRoute("echo"))
    for spec in (over_http, over_ray):
        assert await spec.open().embed(["aab", "b", "aabb"]) == [
            pytest.approx(v) for v in ((0.8**0.5, 0.2**0.5, 0), (0, 1, 0), (0.5**0.5, 0.5**0.5, 0))
        ]
    refusing = EmbedSpec("student", urls["student"], "student", route=ServeRoute("student"))
    with pytest.raises(BadRequest, match="gives no embeddings"):
        await refusing.open().embed(["a"])


@pytest.mark.parametrize("key", ["wrong", KEY + "x", KEY[:-1], "none"])
def test_another_key_is_a_401_everywhere(urls, key):
    client = openai.OpenAI(base_url=urls["echo"], api_key=key, max_retries=0)
    for ask in (
        client.models.list,
        lambda: client.chat.completions.create(**ASK, model="echo"),
        lambda: client.embeddings.create(model="echo", input="a"),
    ):
        with pytest.raises(openai.AuthenticationError) as caught:
            ask()
        assert caught.value.code == "invalid_api_key"


def test_the_right_key_opens(echo):
    assert [model.id for model in echo.models.list()] == ["echo"]
    assert echo.chat.completions.create(**ASK, model="echo", n=2).choices[1].message.content == "1: What colour?"


def test_an_unknown_path_is_a_404(echo):
    with pytest.raises(openai.NotFoundError, match="no such endpoint"):
        echo.completions.create(model="echo", prompt="x")


def picture(url):
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def test_a_picture_on_the_allow_list_is_fetched(echo, pictures):
    url, folder = pictures
    reply = echo.chat.completions.create(model="echo", messages=picture(f"{url}/open/a.png"))
    seen = hashlib.sha256((folder / "open" / "a.png").read_bytes()).hexdigest()[:8]
    assert reply.choices[0].message.content.split() == ["0:", seen]


@pytest.mark.parametrize("path", ["/closed.png", "/open/../closed.png", "/open/missing.png"])
def test_any_other_picture_is_a_400(echo, pictures, path):
    with pytest.raises(openai.BadRequestError, match="send a data URI"):
        echo.chat.completions.create(model="echo", messages=picture(pictures[0] + path))


def test_an_address_that_serve_does_not_listen_on_is_refused(urls):
    with pytest.raises(ClusterError, match=r"listens on 127\.0\.0\.1"):
        serve_app.serve_models({}, listen=Listen("0.0.0.0", key=KEY))


def test_outages_of_an_engine_look_like_outages_of_an_endpoint(urls):
    client = openai.OpenAI(base_url=urls["down"], api_key=KEY, max_retries=0)
    seen = set()
    for shade in range(24):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(file, "PNG")
        shown = picture("data:image/png;base64," + base64.b64encode(file.getvalue()).decode())
        try:
            client.chat.completions.create(model="down", messages=shown)
        except openai.APIStatusError as error:
            seen.add(error.status_code)
        except openai.APIConnectionError:
            seen.add("cut")
    assert seen == {408, 503, "cut"}


WAIT = [{"role": "user", "content": "wait"}]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_takes_its_request_along(urls, stream):
    client = openai.AsyncOpenAI(base_url=urls["echo"], api_key=KEY, max_retries=0)
    asking = asyncio.create_task(client.chat.completions.create(model="echo", messages=WAIT, stream=stream))
    assert await comes_to(client, "1")
    asking.cancel()
    assert await comes_to(client, "0")


async def test_a_process_that_gives_up_over_ray_takes_its_request_along(urls):
    client = openai.AsyncOpenAI(base_url=urls["echo"], api_key=KEY, max_retries=0)
    spec = ChatSpec("echo", urls["echo"], "echo", retries=0, timeout_s=3, route=ServeRoute("echo"))
    asking = asyncio.create_task(spec.open().chat(ChatRequest((Message("user", "wait"),), "judge", "i", "judge@1")))
    assert await comes_to(client, "1")
    with pytest.raises(ModelUnavailable):
        await asking
    assert await comes_to(client, "0")


async def comes_to(client, waiting):
    """Whether so many requests wait in the engine, within half a minute."""
    ask = [{"role": "user", "content": "how many wait?"}]
    for _ in range(300):
        reply = await client.chat.completions.create(model="echo", messages=ask)
        if reply.choices[0].message.content == waiting:
            return True
        await asyncio.sleep(0.1)
    return False


def test_a_body_that_is_too_large_is_a_413(echo):
    text = "x" * (MAX_BODY_BYTES + 1)
    with pytest.raises(openai.APIStatusError, match="body: more than") as caught:
        echo.chat.completions.create(model="echo", messages=[{"role": "user", "content": text}])
    assert caught.value.status_code == 413


def process():
    return os.getpid()


def lost():
    raise ProcessLookupError("nobody is there")


def test_the_head_is_asked_by_a_process_that_is_elsewhere(ray_session, monkeypatch):
    assert head_node.head_elsewhere() == ""
    assert head_node.on_head(process) == os.getpid()
    monkeypatch.setattr(head_node, "head_elsewhere", lambda: "10.0.0.7")
    assert head_node.on_head(process) != os.getpid()
    with pytest.raises(ClusterError, match=r"cannot listen on 192\.0\.2\.1") as caught:
        head_node.on_head(free_port, "192.0.2.1", 0)
    assert not isinstance(caught.value, RayError)
    with pytest.raises(ClusterError, match=r"lost on the head node: .*nobody is there"):
        head_node.on_head(lost)
