import asyncio
import json
from pathlib import Path

import pytest
from builders import make_png, write_png
from unit.models.test_downloads import LOCAL, reply, server
from unit.supply.cell_team import captioned

from dpe_ray.models.downloads import Downloader, DownloadSettings
from dpe_ray.models.openverse import Openverse, OpenverseSettings
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.sets import ImagePool
from dpe_ray.supply.tools.image_search import PoolSearch, WebSearch
from dpe_ray.types import ImageRef, Rejection


@pytest.fixture
def pool(tmp_path: Path) -> ImagePool:
    texts = {"a": "a cat on a red sofa", "b": "two dogs playing", "gone": "a cat in the snow", "c": ""}
    lines = [json.dumps({"path": f"{name}.png", "caption": text}) for name, text in texts.items()]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    for number, name in enumerate("abc"):
        write_png(tmp_path / f"{name}.png", number)
    return ImagePool(str(tmp_path / "list.jsonl"), ImageStore(tmp_path / "images"))


async def test_the_pool_is_searched_by_its_captions(pool):
    captions = dict(pool.captions())
    assert sorted(captions.values()) == ["a cat in the snow", "a cat on a red sofa", "two dogs playing"]
    search = PoolSearch(pool.captions, pool.take)
    (dogs,) = await search.search("a dog", 5)
    assert isinstance(dogs, ImageRef)
    assert Path(dogs.uri).read_bytes() == make_png(1)
    cats = await search.search("cats", 5)
    assert {type(result) for result in cats} == {ImageRef, Rejection}
    assert "gone.png" in next(result.reason for result in cats if isinstance(result, Rejection))
    assert await search.search("submarine", 5) == []


async def test_a_later_page_goes_on_behind_the_one_before_and_at_the_end_from_the_first(tmp_path):
    pool = captioned(tmp_path, 5)
    search = PoolSearch(pool.captions, pool.take)
    pages = [[image.source for image in await search.search("red ring", 2, page)] for page in range(4)]
    assert [len(page) for page in pages] == [2, 2, 1, 2]
    assert len({source for page in pages for source in page}) == 5
    assert pages[3] == pages[0]


async def test_the_web_is_asked_for_the_page_and_for_the_first_where_there_is_none(tmp_path):
    async with server(replying()) as (port, asked):
        search = WebSearch(openverse(port), Downloader(), ImageStore(tmp_path))
        assert await search.search("cat", 4, 2) == []
        await search.search("cat", 4, 50)
    assert "&page=3" in asked[0][0]
    assert not any("&page=" in path for path, _ in asked[1:]), "behind the depth it is the first again"


async def test_images_without_texts_are_found_by_folder_and_name(tmp_path):
    for number, name in enumerate(["cats/tabby_01.png", "dogs/poodle.png"]):
        write_png(tmp_path / "pool" / name, number)
    pool = ImagePool(str(tmp_path / "pool"), ImageStore(tmp_path / "images"))
    (found,) = await PoolSearch(pool.captions, pool.take).search("poodle dog", 3)
    assert found.source == str(tmp_path / "pool/dogs/poodle.png")


def result(url, **fields):
    """In the form of Openverse's image search."""
    return {
        "id": "1", "title": "A cat", "foreign_landing_url": "https://pictures.example/cat", "url": url,
        "creator": "Ada", "license": "by-sa", "license_version": "4.0", "provider": "flickr", "tags": [{"name": "cat"}],
        "license_url": "https://creativecommons.org/licenses/by-sa/4.0/", "filesize": None, "width": 64, "height": 64,
        "attribution": '"A cat" by Ada is licensed under CC BY-SA 4.0.', "mature": False, **fields,
    }  # fmt: skip


def openverse(port, **settings):
    return Openverse(OpenverseSettings(f"http://127.0.0.1:{port}/v1", pause_s=0, **settings))


def replying(*urls, **fields):
    def answer(path):
        if path.startswith("/v1/images/?"):
            found = [result(url, **fields) for url in urls]
            body = {"result_count": len(found), "page_count": 1, "page_size": 20, "page": 1, "results": found}
            return reply(json.dumps(body).encode(), "200 OK", "Content-Type: application/json")
        return reply(make_png(3)) if path == "/cat.png" else reply(b"gone", "404 Not Found")

    return answer


async def test_web_images_are_fetched_with_licence_and_page_and_refusals_are_told(tmp_path):
    port_of = []

    def answer(path):
        base = f"http://127.0.0.1:{port_of[0]}"
        return replying(f"{base}/cat.png", f"{base}/gone.png", "http://169.254.169.254/cat.png", None)(path)

    async with server(answer) as (port, asked):
        port_of.append(port)
        loader = Downloader(DownloadSettings(networks=LOCAL))
        search = WebSearch(openverse(port), loader, ImageStore(tmp_path))
        cat, gone, private = await search.search("a cat", 4)
    assert (cat.origin, cat.licence) == ("search", "by-sa 4.0")
    assert cat.source == 'https://pictures.example/cat ("A cat" by Ada is licensed under CC BY-SA 4.0.)'
    assert [(r.gate, word in r.reason) for r, word in ((gone, "404"), (private, "address"))] == [("download", True)] * 2
    assert asked[0][0] == "/v1/images/?q=a+cat&page_size=4&mature=false&license_type=commercial%2Cmodification"


async def test_an_image_without_a_licence_is_not_fetched(tmp_path):
    async with server(replying("http://127.0.0.1:1/cat.png", license="", license_version=None)) as (port, asked):
        (refused,) = await WebSearch(openverse(port), Downloader(), ImageStore(tmp_path)).search("cat", 1)
    assert refused.reason.endswith("states no licence")
    assert len(asked) == 1


async def test_searches_take_turns(tmp_path):
    async with server(replying()) as (port, asked):
        client = Openverse(OpenverseSettings(f"http://127.0.0.1:{port}/v1", pause_s=0.05))
        before = asyncio.get_running_loop().time()
        await asyncio.gather(*[client.search("cat", 1) for _ in range(4)])
        assert asyncio.get_running_loop().time() - before >= 0.2
    assert len(asked) == 4
