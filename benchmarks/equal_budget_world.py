"""What all arms of equal_budget.py share: a run's sets with a larger final suite, and one process that answers for all.

Teacher and student are asked in process, without endpoints and without Ray. Every answered call of a teacher's role is
counted, and so is what every annotation slot cost, so that a prefix of the slots has its exact price.
"""

import hashlib
import io
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from dpe_ray.config import RunConfig
from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.micro.sources import LEVELS, materialise, student
from dpe_ray.micro.world import CATEGORIES, Item, Scene, ask, draw, make_scene, skills_for, solve
from dpe_ray.models.call_budget import Calls
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.ports import ChatReply, ChatRequest, MapSpec, RolloutPool, Row
from dpe_ray.rounds.local import EngineDoor, LocalMapper
from dpe_ray.rounds.machine import Machine
from dpe_ray.rounds.sets import Sets, load_sets
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup

FINAL_ITEMS = 100
"""Per skill: 2,400 in all."""


@dataclass(frozen=True)
class CountingDoor(EngineDoor):
    """A door whose answered calls are counted by role."""

    counts: dict[str, int] = field(default_factory=dict)

    async def chat(self, request: ChatRequest) -> ChatReply:
        """As `ChatModel.chat`."""
        reply = await super().chat(request)
        self.counts[request.role] = self.counts.get(request.role, 0) + 1
        return reply


class SlotMapper(LocalMapper):
    """Keeps what every annotation slot ended as, and what it cost."""

    def __init__(self) -> None:
        self.slots: list[Row] = []

    async def map(self, spec: MapSpec, rows: Iterable[Row]) -> AsyncIterator[Row]:
        """As `RowMapper.map`."""
        async for row in super().map(spec, rows):
            if spec.name == "annotate":
                self.slots.append(row)
            yield row


class EnginePool(RolloutPool):
    """Rollouts from the student of this process."""

    def __init__(self, engine: TransformersEngine) -> None:
        self._engine = engine

    def rollout(self, prompts: list[Prompt], **settings: object) -> list[RolloutGroup]:
        """As `RolloutPool.rollout`."""
        return self._engine.rollout(prompts, **settings)

    def publish(self, policy: PolicyRef) -> None:
        """As `RolloutPool.publish`."""
        self._engine.load_policy(policy)


@dataclass(frozen=True)
class World:
    """One process with its student, its teacher and its sets."""

    base: PolicyRef
    engine: TransformersEngine
    teacher: CountingDoor
    mapper: SlotMapper
    sets: Sets
    run: RunFolder

    @property
    def calls(self) -> int:
        """Teacher calls so far."""
        return sum(self.teacher.counts.values())

    def machine(self) -> Machine:
        """The ports of a round; nothing is trained or published through them."""

        def door(role: str, stage: str, version: int) -> EngineDoor:
            return EngineDoor(self.engine, "student") if role == "student" else self.teacher

        async def publish(policy: PolicyRef) -> None:
            self.engine.load_policy(policy)

        return Machine(self.mapper, door, None, Quotas, Calls(), None, publish)


def open_world(config: RunConfig, folder: Path) -> World:
    """Read the sets of a configuration and load its models; `folder` keeps pictures and sets between calls."""
    run = RunFolder(folder)
    world = materialise(folder / "sources")
    checkpoint = str(student(folder, 0))
    teacher = CountingDoor(OracleEngine(str(world / "truth.jsonl"), {}), "oracle")
    engine = TransformersEngine(checkpoint, {"threads": 1})
    return World(PolicyRef(checkpoint), engine, teacher, SlotMapper(), load_sets(config, run), run)


def large_final(folder: Path) -> Path:
    """A suite like builtin:micro-final with `FINAL_ITEMS` per skill, from a seed of its own; the skill is a column.

    Images differ from each other; that none is in another set is checked where the sets are read.
    """
    path = folder / f"final-{FINAL_ITEMS}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        pq.write_table(pa.Table.from_pylist(list(_items(Random("equal budget final")))), draft)
        draft.replace(path)
    return path


def _items(rng: Random) -> Iterator[dict[str, object]]:
    seen: set[str] = set()
    for category in CATEGORIES:
        for skill in skills_for(category):
            for number in range(FINAL_ITEMS):
                scene, data = _new_scene(category, LEVELS[number % len(LEVELS)], rng, seen)
                item = _shuffled(scene, ask(scene, skill, rng), rng)
                yield {
                    "image": data, "question": item.question, "options": list(item.options), "answer": item.answer,
                    "kind": item.kind, "category": category, "skills": [skill],
                }  # fmt: skip


def _new_scene(category: str, level: int, rng: Random, seen: set[str]) -> tuple[Scene, bytes]:
    while True:
        scene = make_scene(category, level, rng, split="heldout")
        buffer = io.BytesIO()
        draw(scene).save(buffer, "PNG", compress_level=1)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        if digest not in seen:
            seen.add(digest)
            return scene, buffer.getvalue()


def _shuffled(scene: Scene, item: Item, rng: Random) -> Item:
    if not item.options:
        return item
    solved = solve(scene, item.question, tuple(rng.sample(item.options, len(item.options))))
    assert solved is not None, f"the world cannot answer its own question: {item.question!r}"
    return solved[1]
