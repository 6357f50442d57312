"""Whether mistakes are located in what a student really wrote, by a teacher at an endpoint that reads text alone.

    python benchmarks/locate.py [--seed 0] [--tasks 440] [--student-dir DIR]

1. The micro student is tuned to write fine steps (`fine_student.py`), once per seed and folder: CPU MINUTES.
2. Through its Serve endpoint it answers fresh items with the prompt that asks for fine steps, greedily, asked by the
   official OpenAI client.
3. Right answers in five steps or more, worked out from the facts that the student states, get one wrong step: all up to
   it is left as the student wrote it, all behind it follows from it and ends at a wrong answer. Which step is drawn
   uniformly over those that can be wrong. Half of the items are open-ended (K = 2), half have four options.
4. Each method locates the step through the Serve endpoint of the oracle, which is started without a single scene. Every
   request on the wire is checked: nothing but the prompt's text, no image, no id. Only this file knows the step.

The target is for steps of working. A misread fact has a table of its own: no text speaks against it before the last
fact that decides the answer, so only that one can be located. Controls: the rationales as they were written, with the
wrong answer at their end (nothing is to be found), and a teacher that takes 5 % of its prompts the wrong way round.
"""

import argparse
import asyncio
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

import common
import httpx
from fine_student import FEWEST_STEPS, SKILLS, Task, followed, make_student, policy_of, tasks, writing
from openai import AsyncOpenAI

from dpe_ray.config import ModelConfig
from dpe_ray.diagnose.mistakes import rules
from dpe_ray.diagnose.mistakes.locate import locate_mistakes
from dpe_ray.diagnose.mistakes.methods import LocateSettings
from dpe_ray.grading.intervals import wilson
from dpe_ray.micro.world.fine_steps import Told, retell
from dpe_ray.models.images import data_uri, read_bytes
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.pool.images import ImageStore
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.runtime import serve_app, session
from dpe_ray.types import Answer, AnswerKind, Graded, MistakeLocation, Sample, Verdict, VerdictKind

TEACHERS = {"careful": 0.0, "careless": 0.05}
"""Share of prompts that a teacher takes the wrong way round."""
LONG = 11
"""Rationales of that many steps and more are counted together."""
DRAWS = 40
"""Seeds that the random method is averaged over."""
MAX_TOKENS = 128
TRIES = 4
"""Slips that are tried at one step: some change nothing, or leave nothing to go on from."""
ON_THE_WIRE = {"model", "messages", "n", "temperature", "top_p", "max_tokens", "seed", "logprobs", "top_logprobs"}


class Case(NamedTuple):
    """A wrong answer whose mistake is known here and nowhere else."""

    skill: str
    graded: Graded
    unchanged: Graded
    """What the student wrote, with the same wrong answer at its end."""
    step: int
    """1-based."""
    num_steps: int
    num_possible: int
    """Steps among which the wrong one was drawn."""


def main() -> None:
    """Make the student, ask it, locate, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=440)
    parser.add_argument("--student-dir", type=Path, default=Path(tempfile.gettempdir()) / "dpe-ray-fine-student")
    args = parser.parse_args()
    result = {"seed": args.seed, "student": make_student(args.student_dir, args.seed)}
    store = ImageStore(args.student_dir / "fresh")
    asked = list(tasks(f"fresh {args.seed}", args.tasks, store, split="heldout"))
    with endpoints(policy_of(args.student_dir, args.seed)) as urls:
        texts = asyncio.run(answers(asked, urls["student"]))
        result |= {"writing": writing(asked, texts)}
        print("\nThe student on fresh items, greedy")
        told("skill", result["writing"])
        result |= located(asked, texts, urls, args.seed)
    print(f"wrote {common.write('locate', result)}")


@contextmanager
def endpoints(policy: Path) -> Iterator[dict[str, str]]:
    """Serve the student and the teachers; URLs by name."""
    with tempfile.TemporaryDirectory() as folder:
        no_scenes = Path(folder) / "truth.jsonl"
        no_scenes.write_text("")
        models = {"student": ModelConfig(source=str(policy), engine="transformers", num_cpus=0.1)}
        for name, rate in TEACHERS.items():
            options = {"error_rate": rate}
            models[name] = ModelConfig(source=str(no_scenes), engine="oracle", options=options, num_cpus=0.1)
        session.start(num_cpus=4)
        try:
            served = serve_app.serve_models(models)
            for one in served.values():
                serve_app.wait_until_ready(one.url)
            yield {name: one.url for name, one in served.items()}
        finally:
            session.stop()


async def answers(asked: Sequence[Task], url: str) -> list[str]:
    """What the student writes at temperature 0, in the order of the tasks."""
    client, places = AsyncOpenAI(base_url=url, api_key="none", timeout=300), asyncio.Semaphore(64)

    async def answer(task: Task) -> str:
        (picture,) = task.prompt.sample.images
        image = {"type": "image_url", "image_url": {"url": data_uri(read_bytes(picture), picture.media_type)}}
        turn = {"role": "user", "content": [image, {"type": "text", "text": task.prompt.text}]}
        async with places:
            reply = await client.chat.completions.create(
                model="student", messages=[turn], temperature=0, max_tokens=MAX_TOKENS
            )
        return reply.choices[0].message.content or ""

    return await asyncio.gather(*[answer(task) for task in asked])


def located(asked: Sequence[Task], texts: Sequence[str], urls: Mapping[str, str], seed: int) -> dict[str, object]:
    """All tables about locating."""
    written = [(task, told) for task, text in zip(asked, texts, strict=True) if (told := usable(task, text))]
    print(f"\n{len(written)} of {len(asked)} answers are right and worked out in {FEWEST_STEPS} steps or more")
    result: dict[str, object] = {"asked": len(asked), "usable": len(written)}
    for name in ("working", "fact"):
        cases = corrupted(written, seed, are_facts=name == "fact")
        for teacher, rate in TEACHERS.items():
            print(f"\nOne wrong {name}, teacher {teacher} ({rate:.0%} of the prompts the wrong way round)")
            result[f"{name}_{teacher}"] = measured(cases, urls[teacher], seed)
    return result


def usable(task: Task, text: str) -> Told | None:
    """What the student wrote, if it is five steps or more that work out to the right answer."""
    told = followed(task, text)
    return told if told and told.value == task.right.value and len(told.steps) >= FEWEST_STEPS else None


def corrupted(written: Sequence[tuple[Task, Told]], seed: int, *, are_facts: bool) -> list[Case]:
    """One case of each rationale that a slip can lead to a wrong answer; every second one gets four options."""
    rng, cases = Random(f"slips {seed} {are_facts}"), list[Case]()
    values = {skill: {task.right.value for task, _ in written if task.skill == skill} for skill in SKILLS}
    for task, told in written:
        slips = possible_slips(task, told, rng, are_facts)
        if not slips:
            continue
        step, slipped = rng.choice(sorted(slips.items()))
        others = sorted(values[task.skill] - {told.value, slipped.value}) if len(cases) % 2 else []
        sample = offered(replace(task.prompt.sample, rationale=""), told.value, slipped.value, others, rng)
        graded = Graded(sample, slipped.completion(slipped.value), Verdict(VerdictKind.WRONG, "slip@1"))
        unchanged = replace(graded, text=told.completion(slipped.value))
        cases.append(Case(task.skill, graded, unchanged, step, len(told.steps), len(slips)))
    return cases


def possible_slips(task: Task, told: Told, rng: Random, are_facts: bool) -> dict[int, Told]:
    """For each step of working, or each fact, that can be wrong: the rationale with that slip."""
    first, last = (2, 1 + told.num_facts) if are_facts else (2 + told.num_facts, len(told.steps))
    slips = {}
    for step in range(first, last + 1):
        for _ in range(TRIES):
            with suppress(ValueError):
                slips[step] = retell(task.prompt.sample.question, told.steps, step, rng)
    return slips


def offered(sample: Sample, right: str, wrong: str, others: Sequence[str], rng: Random) -> Sample:
    """The item with four options if there are others enough, else open-ended."""
    if len(others) < 2:
        return sample
    options = [right, wrong, *rng.sample(others, 2)]
    rng.shuffle(options)
    letter = "ABCD"[options.index(right)]
    return replace(sample, options=tuple(options), answer=Answer(AnswerKind.CHOICE, letter))


class Wire(httpx.AsyncHTTPTransport):
    """The way to the endpoint; notes every request that holds more than text, or tells which item it is about."""

    def __init__(self, ids: Set[str]) -> None:
        super().__init__()
        self._ids = ids
        self.requests = 0
        self.telling: list[str] = []

    def open(self) -> "Wire":
        """Be the route of a client."""
        return self

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it on."""
        self.requests += 1
        body = json.loads(request.content)
        is_text = all(isinstance(message["content"], str) for message in body["messages"])
        if not is_text or body.keys() - ON_THE_WIRE or any(id_.encode() in request.content for id_ in self._ids):
            self.telling.append(request.content.decode())
        return await super().handle_async_request(request)


def measured(cases: Sequence[Case], url: str, seed: int) -> dict[str, object]:
    """Ask one teacher about all cases and print what came of it. Exits when a request held more than text."""
    wire = Wire({case.graded.sample.id for case in cases})
    teacher = ChatSpec("teacher", url, url.split("/")[-2], route=wire)
    switched = ask_teacher([case.graded for case in cases], teacher, "answer_switch", seed)
    unchanged = ask_teacher([case.unchanged for case in cases], teacher, "answer_switch", seed)
    lucky = [ask_teacher([case.graded for case in cases], teacher, "random", seed + draw) for draw in range(DRAWS)]
    if wire.telling:
        raise SystemExit(f"{len(wire.telling)} requests held more than text: {wire.telling[0]}")
    steps = {
        "answer_switch": [location.step for location in switched],
        "largest_jump": [rules.largest_jump(location.margins) for location in switched],
        "change_point": [rules.change_point(location.margins) for location in switched],
    }
    random = [fmean(draw[place].step == case.step for draw in lucky) for place, case in enumerate(cases)]
    tables = {name: rows(cases, steps["answer_switch"], random, key) for name, key in GROUPS.items()}
    tables["method"] = {name: row(cases, found, random) for name, found in steps.items()}
    for name, table in tables.items():
        told(name, table)
    silent = fmean(location.step is None for location in unchanged)
    print(f"\nno step named in rationales without a slip: {silent:.3f}; requests, all of them text: {wire.requests}")
    return {**tables, "silent_without_slip": silent, "requests": wire.requests}


def ask_teacher(graded: Sequence[Graded], teacher: ChatSpec, method: str, seed: int) -> list[MistakeLocation]:
    """Locations in the order of the answers."""
    settings = LocateSettings(method, seed=seed)
    found = asyncio.run(locate_mistakes(graded, teacher, LocalMapper(), settings, workers=(1, 1), concurrency=16))
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
