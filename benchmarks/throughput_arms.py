"""The clients that `throughput.py` compares: each asks about the same rows, 64 calls in flight, and notes its times.

All read, decode and hash a row's image before they ask and send it as a base64 data URI.
"""

import asyncio
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from dpe_ray.models.images import data_uri, decode, read_bytes
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.ports import ChatRequest, MapSpec, Message, Row, RowMapper
from dpe_ray.types import ImageRef

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

IN_FLIGHT = 64
THREADS = 10
"""As DPE's generator starts them (its `max_workers`)."""
WORKERS = 2
"""Of the cluster's arm; each holds its share of the calls in flight."""
PROMPT = "Look at the image, then write one question about it that has four options. Answer in JSON. Number {}."


@dataclass
class Noted:
    """What an arm did."""

    started: float = field(default_factory=time.monotonic)
    done: list[float] = field(default_factory=list)
    """Seconds of every completion."""
    memory: dict[int, list[int]] = field(default_factory=dict)
    """Resident bytes of every process, in the order in which they were seen."""
    cpu: dict[int, float] = field(default_factory=dict)
    """Seconds of every process since it began to ask."""
    first_cpu: float = field(default_factory=time.process_time)

    def completed(self, worker: "Used | None" = None) -> None:
        """Count an item; every 50th looks at this process, and a worker tells of its own."""
        self.done.append(time.monotonic() - self.started)
        seen = [used(self.first_cpu)] if len(self.done) % 50 == 0 else []
        for pid, resident, cpu in [*seen, *([worker] if worker else [])]:
            self.memory.setdefault(pid, []).append(resident)
            self.cpu[pid] = cpu


class Used(NamedTuple):
    """What a process has taken so far."""

    pid: int
    resident: int
    """Bytes."""
    cpu: float
    """Seconds."""


def used(first_cpu: float) -> Used:
    """Look at this process, whose CPU seconds were `first_cpu` when it began."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Used(os.getpid(), resident, time.process_time() - first_cpu)


def rows(folder: Path, items: int) -> Iterator[Row]:
    """One {id, image} per item, the pictures of the folder in turn."""
    files = sorted(folder.glob("*.jpg"))
    for number in range(items):
        yield {"id": number, "image": reference(files[number % len(files)])}


def reference(path: Path) -> ImageRef:
    """Read, decode and hash one picture."""
    data = read_bytes(str(path))
    picture = decode(data)
    digest = hashlib.sha256(data).hexdigest()
    return ImageRef(digest, "0" * 16, picture.width, picture.height, "image/jpeg", str(path))


def messages(row: Row) -> list["ChatCompletionMessageParam"]:
    """What the plain clients send: the same bytes as ours."""
    image = row["image"]
    url = data_uri(read_bytes(image), image.media_type)
    text = PROMPT.format(row["id"])
    parts: Any = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


async def plain(url: str, folder: Path, items: int, out: Path) -> Noted:
    """64 tasks around the official package; each reply becomes a line of a file, as it comes and never synced."""
    noted, waiting = Noted(), rows(folder, items)
    http = DefaultAsyncHttpxClient(trust_env=False)
    client = AsyncOpenAI(api_key="none", base_url=url, http_client=http)

    async def work() -> None:
        for row in waiting:
            reply = await client.chat.completions.create(
                model="m", messages=messages(row), n=1, temperature=0.0, top_p=1.0, max_tokens=512
            )
            file.write(json.dumps({"id": row["id"], "text": reply.choices[0].message.content}) + "\n")
            noted.completed()

    with (out / "plain.jsonl").open("w") as file:
        await asyncio.gather(*[work() for _ in range(IN_FLIGHT)])
    return noted


def threads(url: str, folder: Path, items: int, out: Path) -> Noted:
    """A pool of threads, each a blocking call: the shape of DPE's generator."""
    noted = Noted()
    client = OpenAI(api_key="none", base_url=url, http_client=DefaultHttpxClient(trust_env=False))

    def ask(row: Row) -> None:
        reply = client.chat.completions.create(
            model="m", messages=messages(row), n=1, temperature=0.0, top_p=1.0, max_tokens=512
        )
        file.write(json.dumps({"id": row["id"], "text": reply.choices[0].message.content}) + "\n")
        noted.completed()

    with (out / "threads.jsonl").open("w") as file, ThreadPoolExecutor(THREADS) as pool:
        deque(pool.map(ask, rows(folder, items)), maxlen=0)
    return noted


def asking(spec: ChatSpec) -> Callable[[Row], Any]:
    """The factory that `MapSpec` names: one journaled model call per row."""
    model, first_cpu = spec.open(), time.process_time()

    async def work(row: Row) -> Row:
        text = PROMPT.format(row["id"])
        request = ChatRequest((Message("user", text, (row["image"],)),), "question_writer", str(row["id"]), "bench@1")
        await model.chat(request)
        return {"id": row["id"], "used": used(first_cpu) if row["id"] % 20 == 0 else None}

    return work


async def mapped(mapper: RowMapper, workers: int, url: str, folder: Path, items: int, out: Path) -> Noted:
    """Our own way: `ChatSpec` with a journal, behind a row mapper."""
    share, noted = IN_FLIGHT // workers, Noted()
    door = ChatSpec("teacher", url, "m", concurrency=share, journal=str(out / "journal"))
    spec = MapSpec(asking, door, (workers, workers), share, "throughput")
    results: AsyncIterator[Row] = mapper.map(spec, Rows(rows(folder, items), items))
    async for row in results:
        noted.completed(row["used"])
    assert len(noted.done) == items, "a row came twice, or never"
    return noted


@dataclass
class Rows:
    """Rows that tell how many they are, as a supply's slots do."""

    source: Iterator[Row]
    count: int

    def __iter__(self) -> Iterator[Row]:
        return self.source

    def __length_hint__(self) -> int:
        return self.count
