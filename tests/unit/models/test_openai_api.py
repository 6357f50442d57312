import base64

import pytest

from dpe_ray.errors import BadRequest, PoolError
from dpe_ray.models.openai_api import engine_request, read_chat, read_embedding

URL = "data:image/png;base64," + base64.b64encode(b"bytes").decode()
BODY = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


def showing(url):
    return {**BODY, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


def read(fetched=None, **more):
    return engine_request(read_chat({**BODY, **more}, "m"), fetched or {})


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
])  # fmt: skip
def test_a_wrong_body_is_refused_by_the_name_of_the_parameter(more, named):
    with pytest.raises(BadRequest) as caught:
        read_chat({**BODY, **more}, "m")
    assert str(caught.value).startswith(named)


@pytest.mark.parametrize("body", [None, [], "text", {}, {"model": "m"}])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(BadRequest):
        read_chat(body, "m")
    with pytest.raises(BadRequest):
        read_embedding(body, "m")


def test_an_image_is_a_data_uri_or_one_that_was_fetched():
    body = read_chat(showing("https://host/a.png"), "m")
    assert body.image_urls() == ["https://host/a.png"]
    assert engine_request(body, {"https://host/a.png": b"png"}).messages[0][2] == (b"png",)
    assert read_chat(showing(URL), "m").image_urls() == []
    with pytest.raises(PoolError, match="data URI"):
        engine_request(read_chat(showing("file:///etc/passwd"), "m"), {})


def test_texts_to_embed_are_one_or_a_list():
    assert read_embedding({"model": "m", "input": "one"}, "m").texts == ["one"]
    assert read_embedding({"model": "m", "input": ["one", "two"]}, "m").texts == ["one", "two"]


@pytest.mark.parametrize(("more", "named"), [
    ({"input": []}, "input"), ({"input": ""}, "input"), ({"input": [1, 2]}, "input"),
    ({"input": ["a"] * 2049}, "input"),
    ({"dimensions": 8}, "dimensions"), ({"encoding_format": "int8"}, "encoding_format"), ({"model": "x"}, "model"),
])  # fmt: skip
def test_a_wrong_embedding_request_is_refused_by_the_name_of_the_parameter(more, named):
    with pytest.raises(BadRequest) as caught:
        read_embedding({"model": "m", "input": "one", **more}, "m")
    assert str(caught.value).startswith(named)
