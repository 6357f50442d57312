"""What a teacher that errs does to the labels of `annotate`, gate by gate, and what blind solves make of it.

    python benchmarks/noisy_teacher.py [--images 5000 --seed 0]

The oracle of the micro world plays all roles with error_rate 0.2. With error_correlation c the validator and every
blind solve repeat what the question writer believes with probability c and else err on their own. One draft a picture,
every skill alike; what is true is worked out from the scene behind the picture. `reaching` are the drafts that come to
the answer gates: the validator, then the blind solves, of which so many must agree (`supply.solves`, `supply.dissent`).
`wrong` is the share of wrong labels among what is left, `yield` the share of the rightly labelled drafts that pass
both. In parentheses 95 % Wilson intervals. A student takes no part: its band looks at no label. About 20 seconds a row
on one core.
"""

import argparse
import asyncio
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, cycle, product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import common

from dpe_ray.grading.intervals import wilson
from dpe_ray.grading.rules import is_right_answer
from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.micro.sources import LEVELS
from dpe_ray.micro.world import CATEGORIES, Scene, draw, make_scene, skills_for, solve
from dpe_ray.pool.images import ImageStore
from dpe_ray.ports import MapSpec
from dpe_ray.rounds.local import EngineDoor, LocalMapper
from dpe_ray.supply.annotate.slot import ROLES, SlotConfig, SlotJob, annotate_slot
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.types import Candidate, ImageRef, Sample

ERROR_RATE = 0.2
CORRELATIONS = (0.0, 0.2, 0.6, 0.9)
RULES = ((1, 0), (2, 0), (5, 1))
"""(solves, dissent)"""
ANSWER_GATES = ("validator", "solver")
IN_FLIGHT = 64
Truth = dict[str, Scene]
"""SHA-256 of a picture to what is on it."""


class Draft(NamedTuple):
    """A question that came to the answer gates."""

    skill: str
    truth: str
    options: int
    right: bool
    """Whether its label is."""
    gate: str
    """Which gate refused it; empty when none did."""


def main() -> None:
    """Annotate once per correlation and rule; print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        images, truth = draw_pool(Path(folder), args.images, args.seed)
        for rule, correlation in product(RULES, CORRELATIONS):
            drafts = asyncio.run(annotated(Path(folder), images, truth, correlation, rule))
            must_agree = f"{rule[0] - rule[1]} of {rule[0]}"
            rows.append({"must_agree": must_agree, "correlation": correlation, **measured(drafts)})
    print(gate_table(rows), end="\n\n")
    print(answer_table(rows), end="\n\n")
    result = {"seed": args.seed, "images": args.images, "error_rate": ERROR_RATE, "rows": rows}
    print(f"wrote {common.write('noisy_teacher', result)}")


def draw_pool(folder: Path, count: int, seed: int) -> tuple[list[ImageRef], Truth]:
    """So many pictures, the categories in turn, and what is on them; a truth file for the oracle beside them."""
    rng, store, images, truth = Random(f"noisy teacher {seed}"), ImageStore(folder / "images"), [], Truth()
    for number, category in zip(range(count), cycle(CATEGORIES), strict=False):
        scene = make_scene(category, LEVELS[number // len(CATEGORIES) % len(LEVELS)], rng)
        buffer = io.BytesIO()
        draw(scene).save(buffer, "PNG", compress_level=1)
        images.append(store.put(buffer.getvalue()))
        truth[images[-1].sha256] = scene
    lines = (json.dumps({"image": image, "scene": json.loads(scene.to_json())}) for image, scene in truth.items())
    (folder / "truth.jsonl").write_text("\n".join(lines) + "\n")
    return images, truth


async def annotated(
    folder: Path, images: Sequence[ImageRef], truth: Truth, correlation: float, rule: tuple[int, int]
) -> list[Draft]:
    """Ask for one draft a picture, and judge the labels of those that come to the answer gates."""
    options = {"error_rate": ERROR_RATE, "error_correlation": correlation}
    oracle = EngineDoor(OracleEngine(str(folder / "truth.jsonl"), options), "oracle")
    config = SlotConfig(
        dict.fromkeys(ROLES, oracle),
        pass_rate=(0.0, 1.0),
        pass_rate_samples=1,
        solves=rule[0],
        dissent=rule[1],
        attempts=1,
    )
    cells = [f"{category}/{skill}" for category in CATEGORIES for skill in skills_for(category)]
    job = SlotJob(config, Quotas(dict.fromkeys(cells, len(images)), 1.0, 10**9), {})
    rows = [{"slot": slot, "image": image} for slot, image in enumerate(images)]
    drafts = []
    async for row in LocalMapper().map(MapSpec(annotate_slot, job, (1, 1), IN_FLIGHT, "annotate"), rows):
        outcome = row["outcome"]
        gate = "" if isinstance(outcome, Candidate) else outcome.gate
        if outcome.sample and gate in ("", *ANSWER_GATES):
            drafts.append(judged(outcome.sample, truth, gate))
    return drafts


def judged(sample: Sample, truth: Truth, gate: str) -> Draft:
    """Work the question out from the scene."""
    solved = solve(truth[sample.images[0].sha256], sample.question, sample.options)
    assert solved is not None, f"the world cannot answer {sample.question!r}"
    skill, item = solved
    return Draft(skill, item.answer, len(sample.options), is_right_answer(sample, item.answer), gate)


def measured(drafts: Sequence[Draft]) -> dict[str, Any]:
    """Everything about one teacher, and the same by how many answers there are to choose from."""
    by_answers = defaultdict(list)
    for draft, answers in zip(drafts, answers_of(drafts), strict=True):
        by_answers[answers].append(draft)
    groups = {group: passed(of_group) for group, of_group in sorted(by_answers.items())}
    return {**passed(drafts), "by_answers": groups}


def answers_of(drafts: Iterable[Draft]) -> list[str]:
    """Per draft how many answers a wrong one is drawn from: its options, or what is ever true of its skill."""
    drafts = list(drafts)
    true = defaultdict(set)
    for draft in drafts:
        true[draft.skill].add(draft.truth)
    return [f"{draft.options} options" if draft.options else open_answers(len(true[draft.skill])) for draft in drafts]


def open_answers(count: int) -> str:
    """Name of the group of an open question."""
    return "open, 2 answers" if count == 2 else "open, 3-8 answers" if count < 9 else "open, 9 or more"


def passed(drafts: Sequence[Draft]) -> dict[str, Any]:
    """Counts at every gate; shares as [share, low, high]."""
    left = {
        "reaching": drafts,
        "validated": [draft for draft in drafts if draft.gate != "validator"],
        "accepted": [draft for draft in drafts if not draft.gate],
    }
    told: dict[str, Any] = {}
    for name, those in left.items():
        told[name] = len(those)
        told[f"{name}_wrong"] = share(Counter(draft.right for draft in those)[False], len(those))
    right = [draft for draft in drafts if draft.right]
    return told | {"yield": share(sum(not draft.gate for draft in right), len(right))}


def share(count: int, n: int) -> list[float]:
    """[share, low, high]."""
    return [count / max(1, n), *wilson(count, n)]


def gate_table(rows: Sequence[dict[str, Any]]) -> str:
    """A line per rule and teacher."""
    header = ("must agree", "correlation", "reaching", "wrong", "behind the validator", "wrong",
              "behind the solves", "wrong", "yield")  # fmt: skip
    lines = []
    for row in rows:
        gates = [(row[gate], percent(row[f"{gate}_wrong"])) for gate in ("reaching", "validated", "accepted")]
        lines.append((row["must_agree"], row["correlation"], *chain(*gates), percent(row["yield"])))
    return common.table(header, lines)


def answer_table(rows: Sequence[dict[str, Any]]) -> str:
    """Wrong labels among accepted, and yield, by how many answers there are."""
    lines = [
        (row["must_agree"], row["correlation"], group, told["accepted"], percent(told["accepted_wrong"]),
         percent(told["yield"]))
        for row in rows
        for group, told in row["by_answers"].items()
    ]  # fmt: skip
    return common.table(("must agree", "correlation", "answers", "accepted", "wrong", "yield"), lines)


def percent(told: Sequence[float]) -> str:
    """A share with its interval."""
    found, low, high = (100 * value for value in told)
    return f"{found:.1f} % ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
