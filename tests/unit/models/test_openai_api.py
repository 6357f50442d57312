import base64
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.errors import BadRequest, PoolError
from dpe_ray.models.openai_api import ChatBody, engine_request, read_chat, read_embedding

URL = "data:image/png;base64," + base64.b64encode(b"bytes").decode()
BODY = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


def showing(url):
    return {**BODY, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


def sent(body):
    return json.dumps(body).encode()


def read(fetched=None, **more):
    return engine_request(read_chat(sent({**BODY, **more}), "m"), fetched or {})


def test_a_body_becomes_a_request_with_images_before_the_text():
    parts = [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "text", "text": "Why?"},
    ]
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    request = read(messages=turns, stop="x", n=2, seed=3, logprobs=True, top_logprobs=20)
    assert request.messages == (("system", "Be brief.", ()), ("user", "Look.\nWhy?", (b"bytes",)))
    assert (request.stop, request.n, request.seed, request.max_tokens) == (("x",), 2, 3, 512)
    assert (request.logprobs, request.top_logprobs, request.reply_schema) == (True, 20, None)


SCHEMA = {"type": "object", "properties": {"skill": {"type": "string"}}}


@pytest.mark.parametrize(("form", "schema"), [
    ({"type": "text"}, None),
    ({"type": "json_object"}, {"type": "object"}),
    ({"type": "json_schema", "json_schema": {"name": "skill", "schema": SCHEMA, "strict": True}}, SCHEMA),
])  # fmt: skip
def test_every_form_of_reply_becomes_a_schema(form, schema):
    assert read(response_format=form).reply_schema == schema


@pytest.mark.parametrize(("more", "named"), [
    ({"tools": []}, "tools"), ({"n": "many"}, "n"), ({"top_p": 0}, "top_p"), ({"model": "x"}, "model"),
    ({"presence_penalty": 1}, "presence_penalty"), ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"), ({"top_logprobs": 3}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"), ({"stop": ""}, "stop"),
    ({"stop": ["a"] * 5}, "stop"), ({"response_format": {"type": "grammar"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options"),
    ({"n": 10**9}, "n"), ({"n": True}, "n"), ({"n": "2"}, "n"), ({"n": 1.5}, "n"), ({"temperature": math.nan}, "temp"),
    ({"temperature": math.inf}, "temperature"), ({"temperature": "1"}, "temperature"), ({"top_p": math.nan}, "top_p"),
    ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 10**12}, "max_tokens"), ({"seed": 2**63}, "seed"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"), ({"messages": "Why?"}, "messages"),
    ({"messages": {"role": "user", "content": "Why?"}}, "messages"), ({"messages": [None]}, "messages.0"),
    ({"messages": BODY["messages"] * 1025}, "messages"), ({"stop": 3}, "stop"), ({"logprobs": 1}, "logprobs"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 1025}]}, "messages.0.content"),
    ({"a name\nof two lines": 1}, "a name of two lines"), ({"x" * 10**6: 1}, "x" * 200 + ":"),
    ({"model": "x" * 10**6}, "model"),
])  # fmt: skip
def test_a_wrong_body_is_refused_by_the_name_of_the_parameter(more, named):
    with pytest.raises(BadRequest) as caught:
        read_chat(sent({**BODY, **more}), "m")
    assert str(caught.value).startswith(named)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def read_or_refused(body):
    """The request, or nothing and why."""
    try:
        return engine_request(read_chat(sent(body), "m"), {}), ""
    except (BadRequest, PoolError) as error:
        return None, str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(sorted(ChatBody.model_fields))


@given(st.dictionaries(KEYS | st.text(), JSON, max_size=4))
def test_whatever_a_key_holds_is_read_or_refused_in_one_sentence(more):
    request, refusal = read_or_refused({**BODY, **more})
    assert "\n" not in refusal
    if request is None:
        return
    assert 1 <= request.n <= 256
    assert 1 <= request.max_tokens <= 2**20
    assert 0 <= request.temperature <= 10
    assert 0 < request.top_p <= 1


@given(st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": JSON}) | JSON, min_size=1, max_size=3))
def test_whatever_is_said_is_read_or_refused_in_one_sentence(messages):
    _, refusal = read_or_refused({**BODY, "messages": messages})
    assert not refusal or refusal.startswith(("messages", "image"))
    assert "\n" not in refusal


def test_images_are_counted_whether_they_come_in_the_request_or_not():
    image = {"type": "image_url", "image_url": {"url": URL}}
    remote = {"type": "image_url", "image_url": {"url": "https://host/a.png"}}
    turns = [{"role": "user", "content": [image] * 16}, {"role": "user", "content": [remote] * 16}]
    assert len(read_chat(sent({**BODY, "messages": turns}), "m").images()) == 32
    with pytest.raises(BadRequest, match="messages: 33 images are more than 32"):
        read_chat(sent({**BODY, "messages": [*turns, {"role": "user", "content": [remote]}]}), "m")


@pytest.mark.parametrize("body", [None, [], "text", {}, {"model": "m"}])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(BadRequest):
        read_chat(sent(body), "m")
    with pytest.raises(BadRequest):
        read_embedding(sent(body), "m")


def test_an_image_is_a_data_uri_or_one_that_was_fetched():
    body = read_chat(sent(showing("https://host/a.png")), "m")
    assert body.image_urls() == ["https://host/a.png"]
    assert engine_request(body, {"https://host/a.png": b"png"}).messages[0][2] == (b"png",)
    assert read_chat(sent(showing(URL)), "m").image_urls() == []
    with pytest.raises(PoolError, match="data URI"):
        engine_request(read_chat(sent(showing("file:///etc/passwd")), "m"), {})


def test_texts_to_embed_are_one_or_a_list():
    assert read_embedding(sent({"model": "m", "input": "one"}), "m").texts == ["one"]
    assert read_embedding(sent({"model": "m", "input": ["one", "two"]}), "m").texts == ["one", "two"]


@pytest.mark.parametrize(("more", "named"), [
    ({"input": []}, "input"), ({"input": ""}, "input"), ({"input": [1, 2]}, "input"),
    ({"input": ["a"] * 2049}, "input"),
    ({"dimensions": 8}, "dimensions"), ({"encoding_format": "int8"}, "encoding_format"), ({"model": "x"}, "model"),
])  # fmt: skip
def test_a_wrong_embedding_request_is_refused_by_the_name_of_the_parameter(more, named):
    with pytest.raises(BadRequest) as caught:
        read_embedding(sent({"model": "m", "input": "one", **more}), "m")
    assert str(caught.value).startswith(named)
