"""Every hostile case ends as the table says: through the downloader, and as a file of a pool."""

import asyncio
import contextlib
import io
import socket

import pytest
from PIL import Image
from unit.pool.hostile_cases import ADDRESSES, IMAGES, PAYLOAD, HostileAddress, HostileImage

from dpe_ray.errors import PoolError
from dpe_ray.models.addresses import resolve
from dpe_ray.models.downloads import Downloader, DownloadSettings
from dpe_ray.models.rasters import Caps, RefusedImage
from dpe_ray.pool.images import ImageStore

MANY = 200_000
SETTINGS = DownloadSettings(networks=("127.0.0.1/32",), timeout_s=20, caps=Caps(max_bytes=MANY))


@contextlib.asynccontextmanager
async def serving(case):
    """A server that sends the case to everyone; gives its URL."""
    lines = [f"HTTP/1.1 {case.status}", f"Content-Type: {case.declared}" if case.declared else "X-Type: none"]
    length = len(case.body) if case.stated_length is None else case.stated_length
    head = "\r\n".join([*lines, *case.headers, f"Content-Length: {length}", "Connection: close", "", ""])

    async def answer(reader, writer):
        with contextlib.suppress(ConnectionError):  # who refuses hangs up
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode() + case.body)
            await writer.drain()
        writer.close()

    running = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}/image"
    finally:
        running.close()


async def outcome(url, resolve):
    """The picture, or the word of the refusal, whose sentence is one line."""
    try:
        return (await Downloader(SETTINGS, resolve).fetch(url)).data
    except RefusedImage as error:
        return str(error.refusal) if "\n" not in str(error) else repr(error)


@pytest.mark.parametrize("case", [*IMAGES, *ADDRESSES], ids=lambda case: getattr(case, "name", "") or case.url)
async def test_every_case_ends_as_the_table_says(case: HostileImage | HostileAddress):
    async def resolved(host, port):
        if host.endswith(".example"):
            if not case.resolved:
                raise socket.gaierror("unknown")
            return case.resolved
        return await resolve(host, port)

    if isinstance(case, HostileAddress):
        assert await outcome(case.url, resolved) == case.refused
        return
    async with serving(case) as url:
        got = await outcome(url, resolved)
    if case.refused:
        assert got == case.refused
    else:
        assert isinstance(got, bytes), got
        assert PAYLOAD not in got
        picture = Image.open(io.BytesIO(got))
        assert picture.mode == "RGB"
        assert not picture.getexif()
        assert case.check(picture)


@pytest.mark.parametrize("case", [c for c in IMAGES if c.status == "200 OK"], ids=lambda case: case.name)
def test_a_pool_file_is_stored_or_refused_in_one_line(case, tmp_path):
    store = ImageStore(tmp_path)
    if case.refused in ("broken", "format"):
        with pytest.raises(PoolError) as error:
            store.put(case.body)
        assert "\n" not in str(error.value)
        assert not list(tmp_path.iterdir())
    elif not case.refused:
        assert store.put(case.body).media_type.startswith("image/")


def test_the_table_is_large_and_names_each_case_once():
    names = [case.name for case in IMAGES]
    assert len(names) == len(set(names))
    assert len(IMAGES) + len(ADDRESSES) >= 40
