import json
import math
import pickle

import pytest
from unit.models.test_openai_chat import NOW, Endpoint

from dpe_ray.errors import BadReply, BadRequest, ConfigError, ModelUnavailable
from dpe_ray.models.openai_embed import EmbedSpec


def reply(*vectors, status=200):
    data = [{"object": "embedding", "index": i, "embedding": list(v)} for i, v in reversed(list(enumerate(vectors)))]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return status, json.dumps({"object": "list", "model": "m", "data": data, "usage": usage}), {}


def spec(endpoint, **more):
    return EmbedSpec("encoder", endpoint.spec.base_url, "m", **{"retries": 1, **more})


async def test_vectors_come_in_order_and_of_length_one():
    async with Endpoint(reply((3.0, 4.0), (0.0, -2.0))) as endpoint:
        vectors = await spec(endpoint).open().embed(["one", "two"])
    assert vectors == [(0.6, 0.8), (0.0, -1.0)]
    assert endpoint.bodies == [{"model": "m", "input": ["one", "two"], "encoding_format": "float"}]


async def test_many_texts_go_in_batches_and_none_asks_nobody():
    async with Endpoint(reply((1.0, 0.0), (0.0, 1.0)), delay=0.02) as endpoint:
        encoder = spec(endpoint, batch=2, concurrency=2).open()
        assert len(await encoder.embed([str(i) for i in range(10)])) == 10
        assert await encoder.embed([]) == []
    assert sorted(text for body in endpoint.bodies for text in body["input"]) == [str(i) for i in range(10)]
    assert len(endpoint.bodies) == 5
    assert endpoint.most == 2


@pytest.mark.parametrize("failure", [
    (503, "{}", NOW), "drop", "cut", (200, "<html>gateway</html>", {}), reply((1.0,)), reply((1.0, 0.0), (1.0,)),
])  # fmt: skip
async def test_passing_failures_are_retried_and_lasting_ones_are_outages(failure):
    async with Endpoint(failure, reply((1.0, 0.0), (0.0, 1.0))) as endpoint:
        assert len(await spec(endpoint).open().embed(["one", "two"])) == 2
    async with Endpoint(failure) as endpoint:
        with pytest.raises(ModelUnavailable, match=r"models\.encoder: .* in 2 attempts"):
            await spec(endpoint).open().embed(["one", "two"])


async def test_a_refusal_is_not_retried():
    async with Endpoint((400, json.dumps({"error": {"message": "gives no embeddings"}}), {})) as endpoint:
        with pytest.raises(BadRequest, match="gives no embeddings"):
            await spec(endpoint).open().embed(["one"])
        assert len(endpoint.bodies) == 1


@pytest.mark.parametrize("vector", [(0.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)])
async def test_a_vector_without_a_direction_is_a_bad_reply(vector):
    async with Endpoint(reply(vector)) as endpoint:
        with pytest.raises(BadReply, match=r"models\.encoder"):
            await spec(endpoint).open().embed(["one"])


def test_a_spec_pickles_and_wants_its_key(monkeypatch):
    door = EmbedSpec("encoder", "http://host/v1", "m", api_key_env="SOME_ENCODER_KEY")
    assert pickle.loads(pickle.dumps(door)) == door
    monkeypatch.delenv("SOME_ENCODER_KEY", raising=False)
    with pytest.raises(ConfigError, match="SOME_ENCODER_KEY is empty"):
        door.open()
