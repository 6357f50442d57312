"""Whether the need of every planted weakness is named right, and what a diagnosis without labels finds.

    python benchmarks/routes.py --probe-seeds 0 1 2 3 4 [--size 240] [--student DIR --plan B]

Per probe seed one diagnosis with routes, in one process without Ray; the student is asked for real, the oracle judges
and observes. Right are: misconception - elicitable, knowledge - knowledge, perception - perception. The first table
counts planted cells, the second what named their failed items, the third compares the items that votes call hard with
those that a greedy answer gets wrong.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import common

from dpe_ray.diagnose.probe import select_probe
from dpe_ray.diagnose.routes import Named, RouteSettings, cell_of, measure_needs, route
from dpe_ray.diagnose.sampling import Draws, agreement, draw_answers, learnability
from dpe_ray.diagnose.stage import diagnose
from dpe_ray.diagnose.votes import vote
from dpe_ray.grading.intervals import wilson
from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.micro.planted import PLANS
from dpe_ray.micro.sources import materialise, student
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.rounds.local import EngineDoor, LocalMapper
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.types import Graded, Need, Sample

RIGHT = {"misconception": Need.ELICITABLE, "knowledge": Need.KNOWLEDGE, "perception": Need.PERCEPTION}
SHARES = (0.5, 0.625, 0.75, 0.875, 1.0)
"""Least vote shares of an easy item that are compared."""
MAX_TOKENS = 40


@dataclass(frozen=True)
class Measured:
    """One diagnosis with everything it was made from."""

    graded: tuple[Graded, ...]
    drawn: Mapping[str, Draws]
    named: Mapping[str, Named]


def main() -> None:
    """Diagnose once per seed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probe-seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--size", type=int, default=240)
    parser.add_argument("--student", type=Path, help="checkpoint; the shipped one when left out")
    parser.add_argument("--plan", default="A", choices=sorted(PLANS))
    parser.add_argument("--work", type=Path, default=Path("runs/routes"))
    args = parser.parse_args()
    world = materialise(args.work / "sources")
    items = read_samples(str(world / "probe.parquet"), ImageStore(args.work / "images"))
    oracle = EngineDoor(OracleEngine(str(world / "truth.jsonl"), {}), "oracle")
    door = EngineDoor(TransformersEngine(str(args.student or student(args.work, 0)), {}), "student")
    runs = [
        asyncio.run(measured(select_probe(items, args.size, seed), door, oracle, str(args.work / "images"), seed))
        for seed in args.probe_seeds
    ]
    cells = [cell for run, seed in zip(runs, args.probe_seeds, strict=True) for cell in cell_rows(run, seed, args.plan)]
    planted = [cell for cell in cells if cell["kind"] in RIGHT and cell["failed"]]
    result = {
        "confusion": confusion(planted),
        "named_by": named_by(runs, args.plan),
        "votes": [votes_row(runs, share) for share in SHARES],
    }
    for rows in result.values():
        print(common.table(tuple(rows[0]), [tuple(row.values()) for row in rows]) + "\n")
    right = sum(cell["right"] for cell in planted)
    low, high = wilson(right, len(planted))
    print(f"{right} of {len(planted)} planted cells named right: {right / len(planted):.3f} [{low:.3f}, {high:.3f}]")
    missed = [{name: cell[name] for name in ("probe_seed", "skill", "needs")} for cell in planted if not cell["right"]]
    counts = {"right": right, "planted": len(planted), "missed": missed}
    print(f"wrote {common.write(f'routes-{args.plan}', counts | result)}")


async def measured(probe: Sequence[Sample], door: EngineDoor, oracle: EngineDoor, images: str, seed: int) -> Measured:
    """One diagnosis as a round makes it, its fifth step taken apart so that every item's name can be counted."""
    crew = {"max_tokens": MAX_TOKENS, "workers": (1, 1), "concurrency": 64}
    diagnosis, graded = await diagnose(
        0, probe, door, oracle, oracle, LocalMapper(), taxonomy=load_taxonomy(), failures_per_cell=len(probe), **crew
    )
    attributions = {failure.sample_id: failure.attribution for cell in diagnosis.cells for failure in cell.failures}
    settings = RouteSettings(images, seed=seed)
    samples = [g.sample for g in graded]
    drawn = await draw_answers(samples, door, LocalMapper(), k=settings.k, seed=seed, **crew)
    named = await measure_needs(graded, drawn, attributions, door, oracle, LocalMapper(), settings=settings, **crew)
    return Measured(graded, drawn, named)


def cell_rows(run: Measured, seed: int, plan: str) -> list[dict]:
    """What was measured about every cell."""
    rows = []
    for category, skill in sorted({cell_of(g) for g in run.graded}):
        items = [g for g in run.graded if cell_of(g) == (category, skill)]
        drawn = [run.drawn[g.sample.id] for g in items]
        need, counts = route(run.named[g.sample.id] for g in items if g.sample.id in run.named)
        kind = PLANS[plan].kind(skill)
        rows.append({
            "probe_seed": seed, "skill": skill, "kind": kind, "items": len(items),
            "failed": sum(not g.verdict.correct for g in items), "agreement": agreement(drawn),
            "learnability": learnability(drawn), "need": need, "needs": counts, "right": need == RIGHT.get(kind),
        })  # fmt: skip
    return rows


def confusion(cells: Sequence[dict]) -> list[dict]:
    """Planted kind against the need that was named, with agreement and learnability of its cells."""
    rows = []
    for kind in RIGHT:
        mine = [cell for cell in cells if cell["kind"] == kind]
        counts = Counter(cell["need"] for cell in mine)
        kappas = [cell["agreement"] for cell in mine if cell["agreement"] is not None]
        rows.append(
            {"planted": kind, **{str(need): counts[need] for need in Need}}
            | {"agreement": fmean(kappas), "lowest": min(kappas), "highest": max(kappas)}
            | {"learnability": fmean(cell["learnability"] for cell in mine)}
        )
    return rows


def named_by(runs: Sequence[Measured], plan: str) -> list[dict]:
    """Failed items of planted cells by what named them."""
    names = ("read", "sampled", "facts", "zoom", "shuffled", "judge", "none")
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in (*RIGHT, "sound")}
    for run in runs:
        for g in run.graded:
            if g.sample.id in run.named:
                counts[PLANS[plan].kind(g.sample.skills[0])][run.named[g.sample.id].by] += 1
    return [{"planted": kind, **{name: counted[name] for name in names}} for kind, counted in counts.items()]


def votes_row(runs: Sequence[Measured], share: float) -> dict:
    """How hard items compare with wrong ones, for one least share."""
    pairs = [
        (not voted.verdict.correct, not g.verdict.correct)
        for run in runs
        for g, voted in zip(run.graded, vote([g.sample for g in run.graded], run.drawn, share), strict=True)
    ]
    both = sum(hard and wrong for hard, wrong in pairs)
    hard, wrong = (sum(side) for side in zip(*pairs, strict=True))
    return {"least_share": share, "hard": hard / len(pairs), "wrong": wrong / len(pairs),
            "hard_that_are_wrong": both / hard, "wrong_that_are_hard": both / wrong}  # fmt: skip


if __name__ == "__main__":
    main()
