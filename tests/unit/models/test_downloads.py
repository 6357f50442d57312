import asyncio
import contextlib

import pytest
from builders import make_png

from dpe_ray.models.addresses import resolve
from dpe_ray.models.downloads import Downloader, DownloadSettings
from dpe_ray.models.rasters import Refusal, RefusedImage

LOCAL = ("127.0.0.1/32",)


@contextlib.asynccontextmanager
async def server(answer):
    """`answer(path)` gives the bytes of a reply; asked collects paths and Host headers."""
    asked = []

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        asked.append((head.split(" ")[1], {name.lower(): value for name, value in fields.items()}))
        with contextlib.suppress(ConnectionError):
            writer.write(answer(asked[-1][0]))
            await writer.drain()
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1], asked
    finally:
        running.close()


def reply(body=b"", status="200 OK", *headers):
    head = "".join(f"{line}\r\n" for line in (f"Content-Length: {len(body)}", "Connection: close", *headers))
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


async def test_a_name_is_asked_once_a_hop_and_the_connection_goes_to_what_was_checked():
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    asked_for = []

    async def rebinding(host, port):
        asked_for.append(host)
        return next(answers)

    async with server(lambda path: reply(make_png())) as (port, asked):
        got = await Downloader(DownloadSettings(networks=LOCAL), rebinding).fetch(
            f"http://pictures.example:{port}/a?b=1"
        )
    assert asked_for == ["pictures.example"]
    assert [(path, head["host"]) for path, head in asked] == [("/a?b=1", f"pictures.example:{port}")]
    assert got.url == f"http://pictures.example:{port}/a?b=1"


async def test_a_name_that_turns_private_behind_a_redirect_is_refused():
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    async def rebinding(host, port):
        return next(answers)

    async with server(lambda path: reply(b"", "302 Found", "Location: /b")) as (port, asked):
        with pytest.raises(RefusedImage) as error:
            await Downloader(DownloadSettings(networks=LOCAL), rebinding).fetch(f"http://pictures.example:{port}/a")
    assert (error.value.refusal, len(asked)) == (Refusal.ADDRESS, 1)


async def test_redirects_are_followed_up_to_their_number():
    def answer(path):
        left = int(path.strip("/"))
        return reply(b"", "301 Moved", f"Location: {left - 1}") if left else reply(make_png())

    async with server(answer) as (port, _):
        loader = Downloader(DownloadSettings(networks=LOCAL, max_redirects=2))
        assert (await loader.fetch(f"http://127.0.0.1:{port}/2")).url.endswith("/0")
        with pytest.raises(RefusedImage, match="more than 2"):
            await loader.fetch(f"http://127.0.0.1:{port}/3")


async def test_nothing_is_asked_of_this_machine_unless_it_was_named():
    async with server(lambda path: reply(make_png())) as (port, asked):
        with pytest.raises(RefusedImage, match="not public"):
            await Downloader().fetch(f"http://127.0.0.1:{port}/a.png")
    assert asked == []


async def test_a_server_that_does_not_answer_is_given_up():
    async def never(host, port):
        await asyncio.sleep(60)
        return await resolve(host, port)

    with pytest.raises(RefusedImage, match=r"more than 0\.05 s"):
        await Downloader(DownloadSettings(timeout_s=0.05), never).fetch("http://pictures.example/a.png")


async def test_who_asks_is_said_and_no_cookie_comes_along():
    def answer(path):
        return reply(b"", "302 Found", "Location: /b", "Set-Cookie: spy=1") if path == "/a" else reply(make_png())

    async with server(answer) as (port, asked):
        await Downloader(DownloadSettings("dpe-ray (me@example.org)", networks=LOCAL)).fetch(
            f"http://127.0.0.1:{port}/a"
        )
    assert [head["user-agent"] for _, head in asked] == ["dpe-ray (me@example.org)"] * 2
    assert not any("cookie" in head for _, head in asked)
