"""An OpenAI-compatible endpoint that answers every call alike after a fixed latency: as light as HTTP can be served.

    python benchmarks/endpoint.py --latency 0.1

Prints its port and serves until it is ended. `throughput.py` starts it in a process of its own, so that what serves
takes no time of the event loop that asks.
"""

import argparse
import asyncio
import json

TEXT = json.dumps({
    "observation": "A chart with four bars; the second is the tallest, the last one half as tall.",
    "question": "Which bar is the tallest?",
    "options": ["the first", "the second", "the third", "the last"],
    "answer": "B",
    "rationale": "1. Compare the heights. 2. The second bar reaches 40, the others stay below 30. 3. So it is B.",
})  # fmt: skip


def reply(text: str) -> bytes:
    """One `chat.completion` as a whole HTTP response."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 400, "completion_tokens": 90, "total_tokens": 490}
    head = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
    body = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
    lines = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return lines.encode() + body


class Connection(asyncio.Protocol):
    """Counts the bytes of requests, one after the other; reads none of them."""

    def __init__(self, latency: float, answer: bytes) -> None:
        self._latency, self._answer = latency, answer
        self._head, self._left = b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """A part of a request: its head, or `Content-Length` bytes behind it."""
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) - len(body)
            self._head = b""
        if self._left <= 0:
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, self._answer)


async def serve(latency: float) -> None:
    """Serve until cancelled."""
    answer, loop = reply(TEXT), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(latency, answer), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds")
    asyncio.run(serve(parser.parse_args().latency))


if __name__ == "__main__":
    main()
