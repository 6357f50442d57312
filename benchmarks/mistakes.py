"""How well mistakes are located: on simulated traces, on planted errors before a text-only teacher, on annotated ones.

    python benchmarks/mistakes.py [--rationales FILE.jsonl]
    python benchmarks/mistakes.py --annotated FILE.jsonl --base-url URL --model NAME [--api-key-env VAR]

1. Simulated traces (4,000 a row): a calibration of delta, lambda and prior, not evidence.
2. Rationales of the micro world in fine steps, one step wrong and those behind it consistent with it, before the oracle
   that reads text alone, in one process; also with an oracle that takes a share of its prompts the wrong way round.
   Working steps can be located from text. A misread fact often cannot, since nothing in the text speaks against it
   until the facts are put together: it has a table of its own.
3. --rationales: how real rationales (JSON lines with `response`) split into steps.
4. --annotated: JSON lines with question, options, gold and wrong (indices), steps (a list) and step (1-based, the first
   mistake), before any OpenAI-compatible teacher. About 2 (n + 1) calls a line.
"""

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import common
import numpy as np

from dpe_ray.diagnose.mistakes import rules
from dpe_ray.diagnose.mistakes.locate import locate_mistakes
from dpe_ray.diagnose.mistakes.methods import METHODS, LocateSettings
from dpe_ray.diagnose.mistakes.simulation import Simulated
from dpe_ray.diagnose.mistakes.steps import split_steps
from dpe_ray.diagnose.mistakes.trace import Trace
from dpe_ray.grading.intervals import wilson
from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.micro.world import CATEGORY_OF, SKILLS, Item, Scene, ask, make_scene
from dpe_ray.micro.world.fine_steps import Told, tell
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.ports import ChatDoor
from dpe_ray.rounds.local import EngineDoor, LocalMapper
from dpe_ray.types import Answer, AnswerKind, Graded, MistakeLocation, Sample, Verdict, VerdictKind

TRIALS = 4000
PLANTED = 800
FEWEST_STEPS, LONG = 5, 12
CARELESS = 0.05
"""Share of prompts that the second oracle takes the wrong way round."""
TEACHERS = {
    "K = 2": Simulated(),
    "K = 4": Simulated(4),
    "K = 10": Simulated(10),
    "K = 4, prior over all": Simulated(4, is_two_way=False),
    "K = 10, prior over all": Simulated(10, is_two_way=False),
    "slot A + 1 logit, one order": Simulated(slot_bias=1.0, swaps=False),
    "slot A + 1 logit, swapped": Simulated(slot_bias=1.0),
    "K = 10, slot A + 1, swapped": Simulated(10, slot_bias=1.0),
    "no prior (0.5)": Simulated(prior=0.5),
    "prior 0.75": Simulated(prior=0.75),
    "prior 0.9": Simulated(prior=0.9),
}
RULES: dict[str, Callable[[Trace, int], int | None]] = {
    "delta 0": lambda trace, seed: rules.answer_switch(trace.margins, 0.0),
    "delta 0.2": lambda trace, seed: rules.answer_switch(trace.margins, 0.2),
    "delta 0.4": lambda trace, seed: rules.answer_switch(trace.margins, 0.4),
    "largest jump": lambda trace, seed: rules.largest_jump(trace.log_odds),
    "change point": lambda trace, seed: rules.change_point(trace.log_odds),
    "random": lambda trace, seed: rules.random_step(len(trace.log_odds) - 1, seed),
}


class Planted(NamedTuple):
    """A wrong answer whose mistake is known."""

    graded: Graded
    step: int
    num_steps: int


def main() -> None:
    """Print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rationales", type=Path)
    parser.add_argument("--annotated", type=Path)
    parser.add_argument("--base-url")
    parser.add_argument("--model")
    parser.add_argument("--api-key-env", default="")
    args = parser.parse_args()
    if args.annotated:
        teacher = ChatSpec("teacher", args.base_url, args.model, args.api_key_env)
        cases = read_annotated(args.annotated)
        result = {"annotated": scores(cases, {m: located(cases, teacher, m, args.seed) for m in METHODS})}
        print(f"wrote {common.write('mistakes-annotated', result)}")
        return
    result = {"seed": args.seed, "simulated": simulated(args.seed), **text_level(args.seed)}
    if args.rationales:
        result["splitting"] = splitting(args.rationales)
    print(f"wrote {common.write('mistakes', result)}")


def simulated(seed: int) -> dict[str, dict[str, float]]:
    """Share of simulated traces in which each rule names the planted step."""
    rows = {}
    for name, teacher in TEACHERS.items():
        rng = np.random.default_rng(seed)
        trials = [teacher.trial(rng) for _ in range(TRIALS)]
        rows[name] = {
            rule: fmean(find(trace, number) == step for number, (step, trace) in enumerate(trials))
            for rule, find in RULES.items()
        }
    print(f"\nSimulated traces, {TRIALS} a row, share located exactly (lambda 2):\n")
    print(common.table(("teacher", *RULES), [(name, *row.values()) for name, row in rows.items()]))
    return rows


def text_level(seed: int) -> dict[str, dict]:
    """Planted errors before the reading oracle: all methods, by number of steps, and misread facts."""
    with TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.jsonl"
        truth.write_text("")  # the reader knows no scene
        careful, careless = (
            EngineDoor(OracleEngine(str(truth), {"error_rate": rate}), "oracle") for rate in (0.0, CARELESS)
        )
        working = list(planted(seed, PLANTED, is_fact=False))
        facts = list(planted(seed + 1, PLANTED // 2, is_fact=True))
        print(f"\nOne wrong step of working in rationales of {FEWEST_STEPS} steps and more, n = {len(working)}:\n")
        found = {method: located(working, careful, method, seed) for method in METHODS}
        result = {"working": scores(working, found), "by_length": by_length(working, found)}
        print(f"\nThe same before a teacher that takes {CARELESS:.0%} of the prompts the wrong way round:\n")
        found = {method: located(working, careless, method, seed) for method in METHODS}
        result |= {"careless": scores(working, found), "careless_by_length": by_length(working, found)}
        print(f"\nOne misread fact, n = {len(facts)}:\n")
        return {**result, "facts": scores(facts, {m: located(facts, careful, m, seed) for m in METHODS})}


def planted(seed: int, num: int, *, is_fact: bool) -> Iterator[Planted]:
    """Rationales with one wrong step, half of them with four options, the others open-ended."""
    rng, seen = Random(f"{seed} {is_fact}"), set()
    while len(seen) < num:
        skill = rng.choice(sorted(SKILLS))
        scene = make_scene(CATEGORY_OF[skill], rng.randint(1, 3), rng)
        item = ask(scene, skill, rng)
        right = tell(item, scene)
        first, last = (2, 1 + right.num_facts) if is_fact else (2 + right.num_facts, len(right.steps))
        step = rng.randint(first, last)
        told = slipped(item, scene, step, rng)
        if told is None:
            continue
        graded = wrong_answer(item, right, told, rng, with_options=len(seen) % 2 == 0)
        if len(told.steps) >= FEWEST_STEPS and graded.sample.id not in seen:
            seen.add(graded.sample.id)
            yield Planted(graded, step, len(told.steps))


def slipped(item: Item, scene: Scene, step: int, rng: Random) -> Told | None:
    """The working with that step wrong; None where it cannot be, or nothing follows from it."""
    try:
        return tell(item, scene, step, rng)
    except ValueError:
        return None


def wrong_answer(item: Item, right: Told, told: Told, rng: Random, *, with_options: bool) -> Graded:
    """What a student would have written who made the planted mistake."""
    verdict = Verdict(VerdictKind.WRONG, "planted@1")
    if not with_options:
        sample = Sample((), item.question, Answer(AnswerKind(item.kind), right.value))
        return Graded(sample, told.completion(told.value), verdict)
    options = [right.value, told.value, *({str(n) for n in range(20, 22)} if right.value.isdigit() else ("pink", "f7"))]
    rng.shuffle(options)
    letters = dict(zip(options, "ABCD", strict=True))
    sample = Sample((), item.question, Answer(AnswerKind.CHOICE, letters[right.value]), tuple(options))
    return Graded(sample, told.completion(letters[told.value]), verdict)


def located(cases: Sequence[Planted], teacher: ChatDoor, method: str, seed: int) -> list[MistakeLocation]:
    """Locations in the order of the cases."""
    settings = LocateSettings(method, seed=seed)
    found = asyncio.run(
        locate_mistakes([c.graded for c in cases], teacher, LocalMapper(), settings, workers=(1, 1), concurrency=8)
    )
    return [found[case.graded.sample.id] for case in cases]


def scores(cases: Sequence[Planted], found: Mapping[str, list[MistakeLocation]]) -> dict[str, dict[str, float]]:
    """Every method: located exactly with 95 % Wilson interval, within one step, abstentions, calls per item."""
    rows = {method: score(cases, locations) for method, locations in found.items()}
    header = ("method", *next(iter(rows.values())))
    print(common.table(header, [(name, *row.values()) for name, row in rows.items()]))
    return rows


def score(cases: Sequence[Planted], locations: Sequence[MistakeLocation]) -> dict[str, float]:
    """One row of a table."""
    hits = [location.step == case.step for case, location in zip(cases, locations, strict=True)]
    near = [abs((location.step or -9) - case.step) <= 1 for case, location in zip(cases, locations, strict=True)]
    return {
        "exact": fmean(hits),
        **wilson(sum(hits), len(hits))._asdict(),
        "within_one": fmean(near),
        "no_step": fmean(location.step is None for location in locations),
        "calls": fmean(location.calls for location in locations),
    }


def by_length(cases: Sequence[Planted], found: Mapping[str, list[MistakeLocation]]) -> dict[str, Mapping[str, float]]:
    """answer_switch and random by number of steps, the longest together."""
    rows: dict[str, Mapping[str, float]] = {}
    for length in range(FEWEST_STEPS, LONG + 1):
        here = [p for p, case in enumerate(cases) if min(case.num_steps, LONG) == length]
        hits, lucky = (sum(found[m][p].step == cases[p].step for p in here) for m in ("answer_switch", "random"))
        interval = wilson(hits, len(here))._asdict()
        name = f"{length}+" if length == LONG else str(length)
        rows[name] = {"n": len(here), "exact": hits / len(here), **interval, "random": lucky / len(here)}
    print()
    print(common.table(("steps", *rows[str(FEWEST_STEPS)]), [(name, *row.values()) for name, row in rows.items()]))
    return rows


def splitting(file: Path) -> dict[str, float]:
    """Counted properties of the steps of real rationales."""
    sources = [json.loads(line)["response"] for line in file.read_text(encoding="utf-8").splitlines()]
    split = [split_steps(source) for source in sources]
    tiled = [bool(s) and s[0].start == 0 and all(p.end == q.start for p, q in pairwise(s)) for s in split]
    closed = [bool(s) and "answer" in t[s[-1].end :].lower() for s, t in zip(split, sources, strict=True)]
    result = {
        "rationales": len(sources),
        "with_steps": fmean(map(bool, split)),
        "mean_steps": fmean(map(len, split)),
        "median_steps": float(median(map(len, split))),
        "spans_without_gap": fmean(tiled),
        "closing_answer_left_out": fmean(closed),
    }
    print(f"\nSplitting {file.name}:\n")
    print(common.table(tuple(result), [tuple(result.values())]))
    return result


def read_annotated(file: Path) -> list[Planted]:
    """Annotated rationales; the letter of the wrong option closes each."""
    cases = []
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        options = tuple(line["options"])
        letters = Sample((), "", Answer(AnswerKind.TEXT, ""), options).letters
        sample = Sample((), line["question"], Answer(AnswerKind.CHOICE, letters[line["gold"]]), options)
        told = Told(tuple(" ".join(step.split()) for step in line["steps"]), 0, "")
        graded = Graded(sample, told.completion(letters[line["wrong"]]), Verdict(VerdictKind.WRONG, "annotated@1"))
        cases.append(Planted(graded, line["step"], len(told.steps)))
    return list({case.graded.sample.id: case for case in cases}.values())


if __name__ == "__main__":
    main()
