import base64

import pytest

from dpe_ray.errors import BadRequest, PoolError
from dpe_ray.models.openai_api import error_body, read_body, reply_body
from dpe_ray.types import Completion

URL = "data:image/png;base64," + base64.b64encode(b"bytes").decode()
BODY = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


def test_a_body_becomes_a_request_with_images_before_the_text():
    parts = [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "text", "text": "Why?"},
    ]
    request = read_body(
        {
            **BODY,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}],
            "stop": "x",
            "n": 2,
            "seed": 3,
        },
        "m",
    )
    assert request.messages == (("system", "Be brief.", ()), ("user", "Look.\nWhy?", (b"bytes",)))
    assert (request.stop, request.n, request.seed, request.max_tokens) == (("x",), 2, 3, 512)


@pytest.mark.parametrize(("more", "named"), [
    ({"tools": []}, "tools"), ({"n": "many"}, "n"), ({"top_p": 0}, "top_p"), ({"model": "x"}, "model"),
    ({"presence_penalty": 1}, "presence_penalty"), ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
])  # fmt: skip
def test_a_wrong_body_is_refused_by_the_name_of_the_parameter(more, named):
    with pytest.raises(BadRequest) as caught:
        read_body({**BODY, **more}, "m")
    assert str(caught.value).startswith(named)
    assert error_body(str(caught.value), "invalid_request_error")["error"]["param"].startswith(named)


@pytest.mark.parametrize("body", [None, [], "text", {}, {"model": "m"}])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(BadRequest):
        read_body(body, "m")


def test_only_data_uris_are_read():
    parts = [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]
    with pytest.raises(PoolError, match="data URI"):
        read_body({**BODY, "messages": [{"role": "user", "content": parts}]}, "m")


def test_a_reply_states_version_lengths_and_why_it_ended():
    completions = [Completion("a b", (1, 2), (-0.5, -1.0), True, 7), Completion("c", (3,), (-2.0,), False, 7)]
    reply = reply_body(completions, "m", 4, logprobs=True)
    assert reply["system_fingerprint"] == "v4"
    assert [c["finish_reason"] for c in reply["choices"]] == ["stop", "length"]
    assert reply["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert reply["choices"][0]["logprobs"]["content"][1]["logprob"] == -1.0
    assert reply_body(completions, "m", 4, logprobs=False)["choices"][0]["logprobs"] is None
