import asyncio
import base64
import contextlib
import json
import pickle
import re

import pytest
from builders import make_png

from dpe_ray.errors import BadReply, BadRequest, ModelUnavailable
from dpe_ray.models.downloads import DownloadSettings
from dpe_ray.models.openai_edits import EditSpec
from dpe_ray.pool.images import ImageStore

EDITED = make_png(9)


def reply(status=200, **image):
    return status, json.dumps({"created": 0, "data": [image] if image else []}).encode()


DONE = reply(b64_json=base64.b64encode(EDITED).decode())


@contextlib.asynccontextmanager
async def endpoint(*script):
    """An images/edits endpoint that gives scripted replies, the last one for ever; collects the forms it got."""
    left, forms = list(script), []

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            forms.append((head.split(" ")[1], await reader.readexactly(int(length[1]) if length else 0)))
            status, body = left.pop(0) if len(left) > 1 else left[0]
            kind = "application/json" if body[:1] == b"{" else "image/png"
            lines = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(f"HTTP/1.1 {status} X\r\n{lines}".encode() + body)
            await writer.drain()
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1], forms
    finally:
        running.close()


def spec(port, **more):
    return EditSpec("painter", f"http://127.0.0.1:{port}/v1", "m", **{"retries": 1, "timeout_s": 5, **more})


async def test_images_and_instruction_are_sent_as_a_form_and_the_image_comes_back(tmp_path):
    store = ImageStore(tmp_path)
    images = [store.put(make_png(1)), store.put(make_png(2))]
    async with endpoint(DONE) as (port, forms):
        editor = spec(port, extra={"size": "1024x1024"}, seeded=True).open()
        assert await editor.edit(images, "Paint the sky green.", 7) == EDITED
    path, form = forms[0]
    assert path == "/v1/images/edits"
    assert all(make_png(seed) in form for seed in (1, 2))
    for field, value in (("prompt", "Paint the sky green."), ("size", "1024x1024"), ("model", "m"), ("seed", "7")):
        assert f'name="{field}"\r\n\r\n{value}\r\n'.encode() in form


async def test_a_url_is_fetched_by_the_hardened_downloader(tmp_path):
    image = ImageStore(tmp_path).put(make_png(1))
    async with endpoint((200, EDITED)) as (pictures, _):
        named = reply(url=f"http://127.0.0.1:{pictures}/a.png")
        async with endpoint(named) as (port, _):
            near = spec(port, downloads=DownloadSettings(networks=("127.0.0.1/32",)))
            assert (await near.open().edit([image], "Paint.", 0))[:4] == b"\x89PNG"
            with pytest.raises(ValueError, match="not public"):
                await spec(port).open().edit([image], "Paint.", 0)


@pytest.mark.parametrize(("script", "error"), [
    ((reply(503), DONE), None), ((reply(503),), ModelUnavailable), ((reply(),), ModelUnavailable),
    ((reply(400),), BadRequest), ((reply(b64_json="?"),), BadReply),
])  # fmt: skip
async def test_outages_are_retried_and_refusals_are_not(tmp_path, script, error):
    image = ImageStore(tmp_path).put(make_png(1))
    async with endpoint(*script) as (port, forms):
        editor = spec(port).open()
        if error is None:
            assert await editor.edit([image], "Paint.", 0) == EDITED
        else:
            with pytest.raises(error, match=r"models\.painter"):
                await editor.edit([image], "Paint.", 0)
    assert len(forms) == (1 if error in (BadRequest, BadReply) else 2)


def test_a_spec_pickles():
    door = EditSpec("painter", "http://host/v1", "m", extra={"size": "auto"})
    assert pickle.loads(pickle.dumps(door)) == door
