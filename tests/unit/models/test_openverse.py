import pytest
from unit.models.test_downloads import reply, server

from dpe_ray.errors import BadReply, BadRequest, ConfigError, ModelUnavailable
from dpe_ray.models.openverse import Openverse, OpenverseSettings


def client(port, **settings):
    return Openverse(OpenverseSettings(f"http://127.0.0.1:{port}/v1/", pause_s=0, **settings))


@pytest.mark.parametrize(("answer", "error"), [
    (reply(b"", "429 Too Many"), ModelUnavailable), (reply(b"", "503 Down"), ModelUnavailable),
    (reply(b"<html>"), ModelUnavailable), (b"nonsense", ModelUnavailable),
    (reply(b'{"detail": "page_size"}', "401 Unauthorized"), BadRequest),
    (reply(b'{"results": 3}'), BadReply), (reply(b"[]"), BadReply),
])  # fmt: skip
async def test_outages_refusals_and_unknown_replies_are_told_apart(answer, error):
    async with server(lambda path: answer) as (port, _):
        with pytest.raises(error, match="openverse"):
            await client(port).search("cat", 3)


async def test_a_token_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    async with server(lambda path: reply(b'{"results": []}')) as (port, asked):
        assert await client(port, token_env="SOME_TOKEN", licence_type="all").search("cat", 500) == []
    path, headers = asked[0]
    assert path == "/v1/images/?q=cat&page_size=20&mature=false"
    assert headers["authorization"] == "Bearer secret"
    monkeypatch.delenv("SOME_TOKEN")
    with pytest.raises(ConfigError, match="SOME_TOKEN is empty"):
        client(1, token_env="SOME_TOKEN")
