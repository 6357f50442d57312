"""Whether mistakes are located in what a student really wrote, by a teacher at an endpoint that reads text alone.

    python benchmarks/locate.py [--seed 0] [--tasks 440] [--student-dir DIR]

1. The micro student is tuned to write fine steps (`fine_student.py`), once per seed and folder: seven minutes on one
   core.
2. Through its Serve endpoint it answers fresh items with the prompt that asks for fine steps, greedily, asked by the
   official OpenAI client.
3. Right answers in five steps or more, worked out from the facts that the student states, get one wrong step: all up to
   it is left as the student wrote it, all behind it follows from it and ends at a wrong answer. Which step is drawn
   uniformly over those that can be wrong. Every second item is open-ended (K = 2); the others
   have four options where their skill has answers enough.
4. Each method locates the step through the Serve endpoint of the oracle, which is started without a single scene. Every
   request on the wire is checked: nothing but the prompt's text, no image, no id. Only this file knows the step.

The target is for steps of working. A misread fact has a table of its own: no text speaks against it before the last
fact that decides the answer, so only that one can be located. So have the wrong answers that the student gave itself.
Controls: the rationales as they were written with the wrong answer at their end, in which nothing is to be found, and a
teacher that takes a share of its prompts the wrong way round.
"""

import argparse
import asyncio
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import common
import httpx2
from fine_student import FEWEST_STEPS, Task, fresh_tasks, make_student, policy_of, writing
from openai import AsyncOpenAI
from slips import Case, corrupted, own_mistakes, usable

from dpe_ray.config import ModelConfig
from dpe_ray.diagnose.mistakes import rules
from dpe_ray.diagnose.mistakes.locate import locate_mistakes
from dpe_ray.diagnose.mistakes.methods import LocateSettings
from dpe_ray.grading.intervals import wilson
from dpe_ray.models.images import data_uri, read_bytes
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.runtime import session
from dpe_ray.runtime.listening import wait_until_ready
from dpe_ray.types import Graded, MistakeLocation, PolicyRef

TEACHERS = {"careful": 0.0, "careless": 0.05}
"""Share of prompts that a teacher takes the wrong way round."""
LONG = 11
"""Rationales of that many steps and more are counted together."""
DRAWS = 40
"""Seeds that the random method is averaged over."""
MAX_TOKENS = 128
ON_THE_WIRE = {"model", "messages", "n", "temperature", "top_p", "max_tokens", "seed", "logprobs", "top_logprobs"}


def main() -> None:
    """Make the student, ask it, locate, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=440)
    parser.add_argument("--student-dir", type=Path, default=Path(tempfile.gettempdir()) / "dpe-ray-fine-student")
    args = parser.parse_args()
    result = {"seed": args.seed, "student": make_student(args.student_dir, args.seed)}
    asked = fresh_tasks(args.student_dir, args.seed, args.tasks)
    with endpoints(policy_of(args.student_dir, args.seed)) as urls:
        texts = asyncio.run(answers(asked, urls["student"]))
        result |= {"writing": writing(asked, texts)}
        print("\nThe student on fresh items, greedy")
        told("skill", result["writing"])
        result |= located(asked, texts, urls, args.seed)
    print(f"wrote {common.write('locate', result)}")


@contextmanager
def endpoints(policy: PolicyRef) -> Iterator[dict[str, str]]:
    """Serve the student and the teachers; URLs by name."""
    with tempfile.TemporaryDirectory() as folder:
        no_scenes = Path(folder) / "truth.jsonl"
        no_scenes.write_text("")
        models = {"student": ModelConfig(source=policy.base, engine="transformers", num_cpus=0.1)}
        for name, rate in TEACHERS.items():
            options = {"error_rate": rate}
            models[name] = ModelConfig(source=str(no_scenes), engine="oracle", options=options, num_cpus=0.1)
        session.start(num_cpus=4)
        # behind the session, which sets what Ray reads when it is imported
        from dpe_ray.runtime import serve_app
        from dpe_ray.runtime.publication import publish

        try:
            served = serve_app.serve_models(models)
            for one in served.values():
                wait_until_ready(one.url)
            publish(served["student"].app, policy)
            yield {name: one.url for name, one in served.items()}
        finally:
            session.stop()


async def answers(asked: Sequence[Task], url: str) -> list[str]:
    """What the student writes at temperature 0, in the order of the tasks."""
    places = asyncio.Semaphore(64)

    async def answer(client: AsyncOpenAI, task: Task) -> str:
        (picture,) = task.prompt.sample.images
        image = {"type": "image_url", "image_url": {"url": data_uri(read_bytes(picture), picture.media_type)}}
        turn = {"role": "user", "content": [image, {"type": "text", "text": task.prompt.text}]}
        async with places:
            reply = await client.chat.completions.create(
                model="student", messages=[turn], temperature=0, max_tokens=MAX_TOKENS
            )
        return reply.choices[0].message.content or ""

    async with AsyncOpenAI(base_url=url, api_key="none", timeout=300) as client:
        return await asyncio.gather(*[answer(client, task) for task in asked])


def located(asked: Sequence[Task], texts: Sequence[str], urls: Mapping[str, str], seed: int) -> dict[str, object]:
    """All tables about locating."""
    written = [(task, told) for task, text in zip(asked, texts, strict=True) if (told := usable(task, text))]
    print(f"\n{len(written)} of {len(asked)} answers are right and worked out in {FEWEST_STEPS} steps or more")
    result: dict[str, object] = {"asked": len(asked), "usable": len(written)}
    working, facts = (corrupted(written, seed, are_facts=are_facts) for are_facts in (False, True))
    tables = (
        ("working", "One wrong step of working", working, "careful"),
        ("working_careless", f"The same, {TEACHERS['careless']:.0%} of the prompts misread", working, "careless"),
        ("facts", "One wrong fact", facts, "careful"),
        ("own", "Mistakes of the student's own", own_mistakes(asked, texts), "careful"),
    )
    for name, title, cases, teacher in tables:
        print(f"\n{title}, n = {len(cases)}")
        result[name] = measured(cases, urls[teacher], seed)
    result["silent_without_slip"] = silence(working, urls["careful"], seed)
    print(f"\nno step named in rationales without a slip: {result['silent_without_slip']:.3f}")
    return result


@dataclass
class Wire:
    """Watches the way of a client to an endpoint; keeps every request that tells more than the text of its prompt."""

    ids: Set[str]
    """Of the items."""
    telling: list[bytes] = field(default_factory=list)

    def open(self) -> httpx2.AsyncBaseTransport:
        """Make the transport of one client."""
        return Watched(self)


class Watched(httpx2.AsyncHTTPTransport):
    """Sends on what it has shown to its wire."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As every transport."""
        content = await request.aread()
        if tells_more(content, self._wire.ids):
            self._wire.telling.append(content)
        return await super().handle_async_request(request)


def tells_more(content: bytes, ids: Set[str]) -> bool:
    """Whether the body of a request holds an image, an unknown field, or the id of an item."""
    body = json.loads(content)
    is_text = all(isinstance(message["content"], str) for message in body["messages"])
    return not is_text or bool(body.keys() - ON_THE_WIRE) or any(id_.encode() in content for id_ in ids)


def measured(cases: Sequence[Case], url: str, seed: int) -> dict[str, object]:
    """Have all methods locate what went wrong, and print the tables."""
    graded = [case.graded for case in cases]
    switched = ask_teacher(graded, url, "answer_switch", seed)
    lucky = [ask_teacher(graded, url, "random", seed + draw) for draw in range(DRAWS)]
    steps = {
        "answer_switch": [location.step for location in switched],
        # these read the very trace that answer_switch had the teacher give
        "largest_jump": [rules.largest_jump(location.margins) for location in switched],
        "change_point": [rules.change_point(location.margins) for location in switched],
    }
    random = [fmean(draw[place].step == case.step for draw in lucky) for place, case in enumerate(cases)]
    tables = {name: rows(cases, steps["answer_switch"], random, key) for name, key in GROUPS.items()}
    tables["method"] = {name: row(cases, found, random) for name, found in steps.items()}
    for name, table in tables.items():
        told(name, table)
    return {**tables, "requests": sum(location.calls for location in switched)}


def silence(cases: Sequence[Case], url: str, seed: int) -> float:
    """Share of rationales without a slip, but with the wrong answer at their end, in which no step is named."""
    found = ask_teacher([case.unchanged for case in cases if case.unchanged], url, "answer_switch", seed)
    return fmean(location.step is None for location in found)


def ask_teacher(graded: Sequence[Graded], url: str, method: str, seed: int) -> list[MistakeLocation]:
    """Locations in the order of the answers. Exits when a request tells the teacher more than text."""
    wire = Wire({one.sample.id for one in graded})
    door = ChatSpec("teacher", url, url.split("/")[-2], route=wire)
    settings = LocateSettings(method, seed=seed)
    found = asyncio.run(locate_mistakes(graded, door, LocalMapper(), settings, workers=(1, 1), concurrency=16))
    if wire.telling:
        raise SystemExit(f"{len(wire.telling)} requests told more than text: {wire.telling[0].decode()}")
    return [found[one.sample.id] for one in graded]


GROUPS: dict[str, Callable[[Case], str]] = {
    "steps": lambda case: f"{LONG}+" if case.num_steps >= LONG else f"{case.num_steps:2}",
    "skill": lambda case: case.skill,
    "K": lambda case: str(len(case.graded.sample.options) or 2),
}


def rows(
    cases: Sequence[Case], found: Sequence[int | None], random: Sequence[float], key: Callable[[Case], str]
) -> dict[str, dict[str, float]]:
    """One row per group of cases, in the order of their names."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        members[key(case)].append(place)
    return {
        name: row(*([values[place] for place in members[name]] for values in (cases, found, random)))
        for name in sorted(members)
    }


def row(cases: Sequence[Case], found: Sequence[int | None], random: Sequence[float]) -> dict[str, float]:
    """Located exactly with 95 % Wilson interval, and beside it any step at random, and any that could be wrong."""
    hits = sum(step == case.step for case, step in zip(cases, found, strict=True))
    near = fmean(abs((step or -9) - case.step) <= 1 for case, step in zip(cases, found, strict=True))
    return {
        "n": len(cases),
        "exact": hits / len(cases),
        **wilson(hits, len(cases))._asdict(),
        "within_one": near,
        "random": fmean(random),
        "ratio": hits / len(cases) / max(fmean(random), 1e-9),
        "random_of_possible": fmean(1 / case.num_possible for case in cases),
    }


def told(name: str, table: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table of named rows."""
    header = (name, *next(iter(table.values())))
    print("\n" + common.table(header, [(key, *values.values()) for key, values in table.items()]))


if __name__ == "__main__":
    main()
