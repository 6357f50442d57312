"""Whether the diagnosis finds what was planted, and names the kind of mistake.

    python benchmarks/finds.py --probe-seeds 0 1 2 3 4 [--student DIR --plan B]

Per probe seed: 240 probe items, answered by the student and judged by the oracle, in one process without Ray. k skills
are planted (misconceptions, missing knowledge, missing perception); counted are those among the k weakest cells, and on
the misconceptions the failed items whose judged error type is the planted one.
"""

import argparse
import asyncio
from collections import Counter
from pathlib import Path
from statistics import fmean

import common

from dpe_ray.diagnose.probe import select_probe
from dpe_ray.diagnose.stage import diagnose
from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.micro.planted import PLANS, UNSEEN, UNSHOWN
from dpe_ray.micro.sources import materialise, student
from dpe_ray.micro.world import SKILLS
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.rounds.local import EngineDoor, LocalMapper
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.types import Diagnosis, Sample

PROBES = 240


def main() -> None:
    """Diagnose once per seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probe-seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--student", type=Path, help="checkpoint; the shipped one when left out")
    parser.add_argument("--plan", default="A", choices=sorted(PLANS))
    parser.add_argument("--work", type=Path, default=Path("runs/finds"))
    args = parser.parse_args()
    world = materialise(args.work / "sources")
    items = read_samples(str(world / "probe.parquet"), ImageStore(args.work / "images"))
    checkpoint = args.student or student(args.work, 0)
    oracle = EngineDoor(OracleEngine(str(world / "truth.jsonl"), {}), "oracle")
    door = EngineDoor(TransformersEngine(str(checkpoint), {}), "student")
    rows = []
    for seed in args.probe_seeds:
        probe = select_probe(items, PROBES, seed)
        rows.append({"probe_seed": seed, **found(asyncio.run(ask(probe, door, oracle)), args.plan)})
    header = tuple(rows[0])
    print(common.table(header, [[row[name] for name in header] for row in rows]))
    planted = len(planted_skills(args.plan))
    hits = fmean(row["among_weakest"] for row in rows)
    print(f"\n{planted} planted; {hits:.1f} of them among the {planted} weakest on average")
    print(f"wrote {common.write(f'finds-{args.plan}', {'planted': planted, 'rows': rows})}")


async def ask(probe: tuple[Sample, ...], student_door: EngineDoor, oracle: EngineDoor) -> Diagnosis:
    """One diagnosis, as a round makes it."""
    diagnosis, _ = await diagnose(
        0, probe, student_door, oracle, oracle, LocalMapper(),
        taxonomy=load_taxonomy(), max_tokens=40, failures_per_cell=5, workers=(1, 1), concurrency=64,
    )  # fmt: skip
    return diagnosis


def planted_skills(plan: str) -> set[str]:
    """Every skill that is weak on purpose."""
    return {*PLANS[plan].misconceptions, *UNSHOWN, *UNSEEN}


def found(diagnosis: Diagnosis, plan: str) -> dict:
    """Planted skills among the weakest, and error types on the misconceptions."""
    planted = planted_skills(plan)
    cells = sorted(diagnosis.cells, key=lambda cell: cell.accuracy)
    weakest = {cell.skill for cell in cells[: len(planted)]}
    types: Counter[bool] = Counter()
    for cell in cells:
        if rule := PLANS[plan].misconceptions.get(cell.skill):
            wanted = error_type_of(cell.skill, rule)
            for name, count in cell.error_types.items():
                types[name == wanted] += count
    return {
        "planted": len(planted),
        "among_weakest": len(planted & weakest),
        "missed": " ".join(sorted(planted - weakest)) or "none",
        "failures": types.total(),
        "type_right": types[True] / types.total(),
    }


def error_type_of(skill: str, rule: str) -> str:
    """The error type that a wrong rule belongs to."""
    return next(r.error for r in SKILLS[skill].rules if r.name == rule)


if __name__ == "__main__":
    main()
