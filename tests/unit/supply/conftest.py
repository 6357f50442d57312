import asyncio
import json
from collections.abc import Callable

import pytest
from builders import FakeChat

from dpe_ray.errors import ModelUnavailable
from dpe_ray.ports import ChatReply, ChatRequest
from dpe_ray.supply.annotate.slot import ROLES, SlotConfig, SlotJob
from dpe_ray.supply.quota_book import Quotas

CELL = "geometric/shape_colour"
GOOD = {
    "planner": {"image_category": "geometric", "cell": CELL, "question_type": "text", "plan": "Ask for a colour."},
    "question_writer": {
        "observation": "a red ring",
        "question": "What colour is the ring?",
        "options": [],
        "answer": "red",
        "rationale": "1. ring 2. red",
    },
    "validator": {
        "image_category": "geometric",
        "visible": True,
        "answerable": True,
        "unambiguous": True,
        "answer_correct": True,
        "reason": "fine",
    },
}


class Endpoint(FakeChat):
    """A FakeChat that lets other slots go on meanwhile."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        await asyncio.sleep(0)
        return await super().chat(request)


class Team:
    """A FakeChat that plays all roles well, but for what a test changes."""

    def __init__(self) -> None:
        self.says: dict[str, Callable[[ChatRequest], str | list[str] | Exception]] = {
            role: (lambda request, role=role: json.dumps(GOOD[role])) for role in GOOD
        }
        self.says["solver"] = lambda request: "1. ring\nanswer: red"
        self.says["student"] = lambda request: ["answer: red"] * 5 + ["answer: blue"] * (request.n - 5)
        self.chat = Endpoint(lambda request: self.says[request.role](request))

    def change(self, role: str, **values: object) -> None:
        """Make a role reply with other values."""
        self.says[role] = lambda request: json.dumps(GOOD[role] | values)

    def fail(self, role: str, error: Exception | None = None) -> None:
        """Make a role raise."""
        self.says[role] = lambda request: error or ModelUnavailable("503")

    def asked(self, role: str) -> list[ChatRequest]:
        """What a role was asked."""
        return [request for request in self.chat.requests if request.role == role]

    def config(self, **values: object) -> SlotConfig:
        """A config with this team behind every door."""
        return SlotConfig(doors=dict.fromkeys(ROLES, self.chat), **values)

    def job(
        self, book: Quotas | None = None, instructions: dict | None = None, seen: frozenset = frozenset(), **values
    ) -> SlotJob:
        """A worker's job with this team."""
        return SlotJob(self.config(**values), book or Quotas({CELL: 10}, 4, 1000), instructions or {}, seen)


@pytest.fixture
def team() -> Team:
    return Team()
