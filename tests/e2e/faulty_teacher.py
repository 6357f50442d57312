"""The micro world's oracle behind HTTP, with the faults of a real provider. A process of its own: it outlives drivers.

    python faulty_teacher.py TRUTH LOG

Prints its port. LOG gets one JSON line per event: {t, call, event}, where `answered` is what a provider would charge.
"""

import asyncio
import contextlib
import hashlib
import json
import sys
import time
from pathlib import Path
from random import Random

from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.models.openai_api import engine_request, read_chat
from dpe_ray.models.openai_reply import chat_reply, error_body
from dpe_ray.ports import EngineRequest

SHARES = {"refused": 0.02, "failed": 0.02, "hung": 0.01}
"""429, 500 and a time-out, drawn for every attempt."""
BROKEN = 0.01
"""Share of the calls whose answer is cut in the middle, whenever they are asked: a teacher answers as it does."""
MEDIAN_S, SPREAD = 0.03, 1.2
"""Of the log-normal latency: one call of a hundred takes sixteen times the median."""


class FaultyTeacher:
    """Answers as the oracle does, when it answers."""

    def __init__(self, truth: str, log: Path) -> None:
        self._engine = OracleEngine(truth, {})
        self._log = log.open("a", buffering=1)
        self._attempts: dict[str, int] = {}

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client goes away."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                body = await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0]))
                call = hashlib.sha256(body).hexdigest()[:16]
                self._attempts[call] = self._attempts.get(call, 0) + 1
                chance = Random(f"{call} {self._attempts[call]}")
                self._note(call, "asked")
                await asyncio.sleep(MEDIAN_S * chance.lognormvariate(0, SPREAD))
                fault = drawn(chance) or ("broken" if Random(call).random() < BROKEN else "")
                if fault == "hung":
                    self._note(call, fault)
                    await reader.read()  # until the client gives up
                    break
                status, reply = await self._reply(body, fault)
                lines = f"Content-Type: application/json\r\nContent-Length: {len(reply)}\r\nRetry-After: 0.2\r\n"
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + reply)
                await writer.drain()
                self._note(call, "answered" if status == 200 else fault)
                if fault == "broken":
                    self._note(call, fault)
        writer.close()

    async def _reply(self, body: bytes, fault: str) -> tuple[int, bytes]:
        if fault in ("refused", "failed"):
            return {"refused": 429, "failed": 500}[fault], json.dumps(error_body("not now", "server_error")).encode()
        read = read_chat(body, "oracle")
        request: EngineRequest = engine_request(read, {})
        reply = chat_reply(await self._engine.chat(request), read, 0)
        if fault == "broken":
            for choice in reply["choices"]:
                text = choice["message"]["content"]
                choice["message"]["content"] = text[: len(text) // 2]
        return 200, json.dumps(reply).encode()

    def _note(self, call: str, event: str) -> None:
        self._log.write(json.dumps({"t": time.time(), "call": call, "event": event}) + "\n")


def drawn(chance: Random) -> str:
    """The fault of one attempt, empty for most."""
    place = chance.random()
    for fault, share in SHARES.items():
        place -= share
        if place < 0:
            return fault
    return ""


async def serve(truth: str, log: str) -> None:
    """Serve until the process ends."""
    server = await asyncio.start_server(FaultyTeacher(truth, Path(log)).connected, "127.0.0.1", 0, limit=2**24)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
