import asyncio
import contextlib

import pytest

from dpe_ray.errors import ConfigError, PoolError
from dpe_ray.models import image_urls
from dpe_ray.models.image_urls import check_allowed, fetch_images


@contextlib.asynccontextmanager
async def server(reply):
    asked = []

    async def answer(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        writer.write(reply)
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}", asked
    finally:
        running.close()


def reply(status="200 OK", body=b"picture", headers=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


async def test_what_lies_below_a_place_on_the_list_is_fetched_once():
    async with server(reply()) as (url, asked):
        image = f"{url}/pictures/a.png?size=2"
        assert await fetch_images([image, image], ("https://elsewhere", f"{url}/pictures")) == {image: b"picture"}
    assert asked == ["/pictures/a.png?size=2"]


@pytest.mark.parametrize("path", [
    "/a.png", "/pictures", "/pictures-of-others/a.png", "/pictures/../a.png", "/pictures/%2e%2e/a.png",
    "/pictures/%252e%252e/a.png", "/pictures/..%2fa.png", "/pictures/..\\a.png", "/pictures/./a.png",
])  # fmt: skip
async def test_nothing_beside_the_place_is_asked_for(path):
    async with server(reply()) as (url, asked):
        with pytest.raises(PoolError, match="on no allow-list"):
            await fetch_images([url + path], (f"{url}/pictures/",))
    assert asked == []


@pytest.mark.parametrize("url", [
    "http://host/p/a.png", "https://host.evil/p/a.png", "https://host:444/p/a.png", "https://me@host/p/a.png",
    "https://evil/https://host/p/a.png", "file:///p/a.png", "//host/p/a.png", "https://[/p/a.png", "nonsense",
])  # fmt: skip
async def test_another_scheme_host_or_port_is_another_place(url):
    with pytest.raises(PoolError, match="on no allow-list"):
        await fetch_images([url], ("https://host/p",))


async def test_without_a_list_nothing_is_fetched():
    assert await fetch_images([], ()) == {}
    with pytest.raises(PoolError, match="send a data URI"):
        await fetch_images(["https://host/a.png"], ())


@pytest.mark.parametrize(("answer", "told"), [
    (reply("302 Found", headers="Location: http://127.0.0.1:1/secret\r\n"), "HTTP 302"),
    (reply("404 Gone"), "HTTP 404"), (b"nonsense", "cannot be fetched"),
])  # fmt: skip
async def test_redirects_and_failures_are_told(answer, told):
    async with server(answer) as (url, _):
        with pytest.raises(PoolError, match=told):
            await fetch_images([f"{url}/a.png"], (url,))


async def test_a_picture_that_is_too_large_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(image_urls, "MAX_BYTES", 1000)
    async with server(reply(body=b"x" * 5000)) as (url, _):
        with pytest.raises(PoolError, match="more than 1000 bytes"):
            await fetch_images([f"{url}/a.png"], (url,))


async def test_all_pictures_of_a_request_have_one_limit_of_bytes(monkeypatch):
    monkeypatch.setattr(image_urls, "MAX_ALL_BYTES", 25)
    async with server(reply(body=b"x" * 10)) as (url, asked):
        assert len(await fetch_images([f"{url}/a.png", f"{url}/b.png"], (url,))) == 2
        with pytest.raises(PoolError, match="more than 5 bytes; send smaller or fewer"):
            await fetch_images([f"{url}/{i}.png" for i in range(30)], (url,))
    assert asked[2:] == ["/0.png", "/1.png", "/2.png"]


@contextlib.asynccontextmanager
async def dripping_server():
    async def answer(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)

    running = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    finally:
        running.close()


async def test_a_server_that_never_comes_to_an_end_is_left(monkeypatch):
    monkeypatch.setattr(image_urls, "ALL_WITHIN_S", 0.3)
    async with dripping_server() as url, asyncio.timeout(5):
        with pytest.raises(PoolError, match=r"took more than 0\.3 s"):
            await fetch_images([f"{url}/a.png"], (url,))


@pytest.mark.parametrize("place", ["", "host/p", "ftp://host/p", "https://", "https://host/p?x=1", "*"])
def test_an_entry_that_is_no_place_is_a_config_error(place):
    with pytest.raises(ConfigError, match="is no place"):
        check_allowed([place])
    check_allowed(["https://host", "http://127.0.0.1:8000/pictures/"])
