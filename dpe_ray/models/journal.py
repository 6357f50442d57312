"""The journal of model calls: what was answered once is not asked again, after any crash.

One folder per stage, one append-only file per process, one JSON line per finished call. A call is finished when its
line is on the disk; only then does the caller see the reply.
"""

import asyncio
import hashlib
import json
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dpe_ray.errors import EndpointDown, ModelError, ModelUnavailable, StoreError
from dpe_ray.ports import ChatReply, ChatRequest
from dpe_ray.types import content_id

LOOK_EVERY_S = 0.5
"""How often a journal looks for what other processes wrote."""


@dataclass
class Call:
    """One call while it runs."""

    attempts: int = 0
    role: str = ""
    """Who asks, as in its request."""


class Asker(Protocol):
    """A model that counts its attempts."""

    async def ask(self, request: ChatRequest, call: Call) -> ChatReply:
        """As `ChatModel.chat`; `call.attempts` rises with every try, failed ones included."""
        ...


def call_key(request: ChatRequest, model: str, policy_version: int = 0) -> str:
    """Equal for equal requests to the same policy. Images count by content, not by place."""
    told = {field.name: getattr(request, field.name) for field in fields(request) if field.compare}
    told["messages"] = [(m.role, m.text, [i.sha256 for i in m.images]) for m in request.messages]
    return content_id(told, model, policy_version)


class Journal:
    """All finished calls of a folder, and this process's own file in it, opened with the first line.

    Other processes write to the folder meanwhile: what one of them paid before it died is found here as well. Belongs
    to one event loop.
    """

    def __init__(self, folder: str | Path, writer: str, look_every_s: float = LOOK_EVERY_S) -> None:
        self._folder = Path(folder)
        self._writer = writer
        self._look_every_s = look_every_s
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._path, self._file = Path(), -1
        self._waiting: deque[_Waiting] = deque()
        self._syncing: asyncio.Task[None] | None = None
        self._lines: dict[str, tuple[Path, int]] = {}
        """Key of an answered call to its line: file and first byte. Replies stay on disk: there may be millions."""
        self._read: dict[Path, int] = {}
        """Bytes of whole lines read, by file of another process; written, for the own one."""
        self._looked = time.monotonic()
        self._catch_up()

    async def find(self, key: str) -> ChatReply | None:
        """Look up the reply of an equal call, or None. Outages are no answers.

        A miss reads what came to the folder, at most every `look_every_s`: a call of a process that died is asked again
        only after its death was noticed, which takes longer.
        """
        if key not in self._lines and time.monotonic() - self._looked >= self._look_every_s:
            self._looked = time.monotonic()
            await asyncio.to_thread(self._catch_up)
        return await asyncio.to_thread(self._recorded, *self._lines[key]) if key in self._lines else None

    async def append(self, line: dict[str, Any]) -> None:
        """Put a line on the disk: written and synced when this returns. Raises StoreError.

        Lines that come while others are synced wait, and then go together; one whose caller is cancelled goes as well.
        """
        synced = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(line, synced))
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync())
        await synced

    def close(self) -> None:
        """Close the file; a later line begins a new one."""
        with self._writing:
            self._close()

    def _catch_up(self) -> None:
        try:
            with self._reading:
                self._read_on()
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"journal {self._folder}: cannot be read ({error}); check the disk and resume") from error

    def _read_on(self) -> None:
        for path in _files(self._folder):
            if path != self._path and path.stat().st_size > (start := self._read.get(path, 0)):
                for at, end, line in _read_lines(path, start):
                    self._learn(line, path, at)
                    self._read[path] = end

    def _learn(self, line: Mapping[str, Any], path: Path, at: int) -> None:
        if "error" not in line:
            self._lines.setdefault(line["key"], (path, at))

    def _recorded(self, path: Path, at: int) -> ChatReply:
        try:
            with path.open("rb") as file:
                file.seek(at)
                return _reply(json.loads(file.readline()))
        except (OSError, ValueError) as error:
            raise StoreError(f"journal {path}: cannot be read ({error}); check the disk and resume") from error

    async def _sync(self) -> None:
        try:
            while self._waiting:
                batch, error = await asyncio.to_thread(self._write_waiting)
                for waiting in batch:
                    if waiting.synced.done():  # its caller was cancelled
                        continue
                    if error:
                        waiting.synced.set_exception(StoreError(error))
                    else:
                        waiting.synced.set_result(None)
        except asyncio.CancelledError:
            self._write_waiting()  # the loop ends: what was paid is kept
            raise

    def _write_waiting(self) -> tuple[list["_Waiting"], str]:
        """Write and sync all lines that wait; gives them, and what went wrong."""
        with self._writing:
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            lines = [json.dumps(waiting.line, ensure_ascii=False).encode() + b"\n" for waiting in batch]
            try:
                self._write(b"".join(lines))
            except OSError as error:
                self._close()  # the last line may be torn: later ones go to a new file
                return batch, f"journal {self._folder}: cannot write ({error}); free space and resume"
            at = self._read.get(self._path, 0)
            for waiting, line in zip(batch, lines, strict=True):
                self._learn(waiting.line, self._path, at)
                at += len(line)
            self._read[self._path] = at
        return batch, ""

    def _write(self, data: bytes) -> None:
        if data and self._file < 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            # no two processes, and no two lives of one process, share a file: only a last line can be torn
            self._path = self._folder / f"{self._writer}-{os.getpid()}{secrets.token_hex(3)}.jsonl"
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        while data:
            data = data[os.write(self._file, data) :]
        if self._file >= 0:
            os.fdatasync(self._file)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _Waiting(NamedTuple):
    line: dict[str, Any]
    synced: asyncio.Future[None]


class JournaledChat:
    """A ChatModel that asks only what its journal does not know."""

    def __init__(self, inner: Asker, journal: Journal, endpoint: str, model: str, policy_version: int = 0) -> None:
        self._inner, self._journal, self._model, self._policy_version = inner, journal, model, policy_version
        self._asked = {"endpoint": endpoint, "model": model, "policy_version": policy_version}
        self._under_way: dict[str, asyncio.Event] = {}

    async def chat(self, request: ChatRequest) -> ChatReply:
        """As `ChatModel.chat`; `cached` when the journal answered. An equal call that is under way is waited for."""
        key = call_key(request, self._model, self._policy_version)
        while not (known := await self._journal.find(key)):
            if key not in self._under_way:
                return await self._ask(request, key)
            await self._under_way[key].wait()
        return replace(known, cached=True)

    async def _ask(self, request: ChatRequest, key: str) -> ChatReply:
        ended = self._under_way[key] = asyncio.Event()
        try:
            return await self._paid(request, key)
        finally:
            del self._under_way[key]
            ended.set()

    async def _paid(self, request: ChatRequest, key: str) -> ChatReply:
        call, start = Call(role=request.role), time.monotonic()
        line = _head(request, key) | self._asked
        try:
            reply = replace(await self._inner.ask(request, call), call=key)
        except ModelError as error:
            outage = isinstance(error, ModelUnavailable | EndpointDown)
            line |= {
                "outage": outage,
                "error": str(error),
                "attempts": call.attempts,
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "seconds": _since(start),
            }
            await self._journal.append(line)
            raise
        digest = hashlib.sha256("\0".join(reply.texts).encode()).hexdigest()
        line |= {
            "answered_by": reply.model,
            "texts": reply.texts,
            "response": digest,
            "attempts": call.attempts,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "seconds": _since(start),
        }
        if request.top_logprobs:
            line["first_token"] = reply.first_token
        await self._journal.append(line)
        return reply


def read_journal(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Yield every line of every file below a folder, but a last one torn by a kill. Raises StoreError for others."""
    for path in _files(Path(folder)):
        yield from (line for _, _, line in _read_lines(path, 0))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jsonl"))


def _read_lines(path: Path, start: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Every whole line from byte `start` on: its first byte, the byte behind it, and what it says."""
    with path.open("rb") as file:
        file.seek(start)
        for text in file:
            if not text.endswith(b"\n"):  # torn by a kill, or still being written
                return
            end = start + len(text)
            try:
                yield start, end, json.loads(text)
            except ValueError as error:
                number = path.read_bytes()[:start].count(b"\n") + 1
                raise StoreError(f"journal {path}:{number}: is no JSON; move the file away and resume") from error
            start = end


def _head(request: ChatRequest, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "role": request.role,
        "item": request.item,
        "prompt_version": request.prompt_version,
        "n": request.n,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
        "images": sum(len(message.images) for message in request.messages),
        "top_logprobs": request.top_logprobs,
    }


def _reply(line: dict[str, Any]) -> ChatReply:
    tokens = line["prompt_tokens"], line["completion_tokens"]
    first = tuple(tuple((token, value) for token, value in choice) for choice in line.get("first_token", ()))
    return ChatReply(tuple(line["texts"]), line["answered_by"], line["key"], *tokens, first_token=first)


def _since(start: float) -> float:
    return round(time.monotonic() - start, 4)
