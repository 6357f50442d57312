"""Whether targeting pays at equal teacher calls and equal updates: accuracy against calls for every way to choose.

    python benchmarks/equal_budget.py --arms random uniform tiered error_driven unified shuffled --seeds 0 1 2 3 4

In one process without Ray. Per arm and seed one diagnosis and one supply, journaled by what every slot cost; per budget
the prefix that it pays is trained on and measured on 2,400 final items, 100 per skill. Every finished cell is a JSON in
--out that the next call skips, so several processes may share the arms; `equal_budget_table.py` prints the table.
One to three minutes per cell on one core.
"""

import argparse
import asyncio
import json
import pickle
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import common
from equal_budget_arms import (
    ARMS,
    Arm,
    Stream,
    diagnosed,
    lessons,
    samples_at,
    settings_at,
    steps_at,
    supplied,
    undiagnosed,
)
from equal_budget_world import EnginePool, World, large_final, open_world
from transformers.utils import logging

from dpe_ray.config import RunConfig
from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.grading.rules import grade
from dpe_ray.seeds import child_seed
from dpe_ray.train.methods import finetune
from dpe_ray.types import PolicyRef, Sample

BUDGETS = (1000, 2000, 4000, 8000)
"""Teacher calls."""
T = TypeVar("T")


def main() -> None:
    """Fill in the cells that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--most-calls", type=int, default=max(BUDGETS), help="supplied to; no budget may be larger")
    parser.add_argument("--out", type=Path, default=Path("runs/equal_budget"))
    parser.add_argument("--work", type=Path, help="pictures and sets; below --out when left out")
    args = parser.parse_args()
    if max(args.budgets) > args.most_calls:
        parser.error(f"--most-calls {args.most_calls} is below a budget")
    logging.disable_progress_bar()
    args.out.mkdir(parents=True, exist_ok=True)
    work = args.work or args.out / "world"
    final = large_final(work)
    for seed in args.seeds:
        for name in args.arms:
            missing = [b for b in args.budgets if not cell_file(args.out, name, seed, b).exists()]
            if missing:
                config = ARMS[name].config(seed, final)
                world = open_world(config, work)
                fill(name, seed, missing, args.most_calls, config, world, args.out)


def cell_file(out: Path, arm: str, seed: int, budget: int) -> Path:
    """Where a cell's result is kept."""
    return out / f"{arm}-{seed}-{budget}.json"


def fill(
    name: str, seed: int, budgets: Sequence[int], most_calls: int, config: RunConfig, world: World, out: Path
) -> None:
    """Measure the cells of one arm and seed."""
    truth = common.Truth(world.run.path)
    base = out / "base.json"
    if not base.exists():
        write(base, {"suite": suite(world.sets.final), "right": measured(world, world.base)})
    stream = asyncio.run(streamed(name, seed, most_calls, config, world, out))
    for budget in budgets:
        started = time.monotonic()
        samples = stream.within(budget, samples_at(budget, config))
        cell = {
            "arm": name, "seed": seed, "budget": budget,
            "diagnosis_calls": stream.diagnosis_calls, "labelling_calls": stream.labelling_calls,
            "samples": len(samples), "kinds": Counter(kind(s, truth) for s in samples),
            "skills": Counter(skill(s, truth) for s in samples),
        }  # fmt: skip
        # a budget that ends in the diagnosis trains nothing
        trained = train(config, world, samples, budget, out / f"policy-{name}-{seed}-{budget}") if samples else {}
        policy = trained.pop("policy", world.base)
        cell |= trained | {"right": measured(world, policy)}
        write(cell_file(out, name, seed, budget), cell | {"seconds": round(time.monotonic() - started)})
        print(f"{name} seed {seed} budget {budget}: {told(cell, world.sets.final)}", flush=True)


async def streamed(name: str, seed: int, most_calls: int, config: RunConfig, world: World, out: Path) -> Stream:
    """Diagnose and supply, or load what was."""
    arm: Arm = ARMS[name]
    diagnosis, spent = undiagnosed(), 0
    if arm.diagnosis:
        file = out / f"diagnosis-{arm.diagnosis}-{seed}.pickle"
        diagnosis, spent = await kept(file, lambda: diagnosed(config, world))
    file = out / f"stream-{name}-{seed}-{most_calls}.pickle"
    stream = await kept(file, lambda: supplied(arm, config, world, diagnosis, spent, most_calls))
    print(
        f"{name} seed {seed}: diagnosis {spent} calls, labelling {stream.labelling_calls}, "
        f"{len(stream.samples)} samples for {stream.calls} calls, rejected {stream.rejected}",
        flush=True,
    )
    return stream


async def kept(file: Path, make: Callable[[], Awaitable[T]]) -> T:
    """Load what an earlier call left, or make it."""
    if not file.exists():
        value = await make()
        draft = file.with_suffix(".part")
        draft.write_bytes(pickle.dumps(value))
        draft.replace(file)
    loaded: T = pickle.loads(file.read_bytes())
    return loaded


def train(config: RunConfig, world: World, samples: Sequence[Sample], budget: int, out: Path) -> dict:
    """Train the base policy on a prefix."""
    prompts = lessons(config, world, samples, budget)
    settings = settings_at(config, len(prompts), steps_at(budget))
    seed = child_seed(config.seed, "train", 1)
    result = finetune(world.base, prompts, EnginePool(world.engine), settings, out=str(out), seed=seed)
    return {"policy": result.policy, "lessons": len(prompts), "updates": result.steps, "refused": result.refused}


def measured(world: World, policy: PolicyRef) -> str:
    """One greedy answer per final item: a 1 for a right one, else a 0, in the order of the suite."""
    world.engine.load_policy(policy)
    prompts = [answer_prompt(sample) for sample in world.sets.final]
    groups = world.engine.rollout(prompts, group_size=1, temperature=0.0, top_p=1.0, max_tokens=40, seed=0)
    world.engine.load_policy(world.base)
    return "".join(str(int(grade(g.prompt.sample, g.rollouts[0].completion.text).correct)) for g in groups)


def suite(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """Category and skill of every final item."""
    return [(sample.category, sample.skills[0]) for sample in samples]


def skill(sample: Sample, truth: common.Truth) -> str:
    """The skill that a supplied sample really asks for."""
    return truth.skill(sample.images[0].sha256, sample.question, sample.options)


def kind(sample: Sample, truth: common.Truth) -> str:
    """Kind of weakness that a supplied sample is about."""
    return truth.kind(skill(sample, truth))


def told(cell: dict, final: Sequence[Sample]) -> str:
    """One cell in a line."""
    rights: dict[str, list[int]] = {}
    for sample, right in zip(final, cell["right"], strict=True):
        rights.setdefault(sample.category, []).append(int(right))
    macro = sum(sum(r) / len(r) for r in rights.values()) / len(rights)
    return f"{cell['samples']} samples {dict(cell['kinds'])}, {cell.get('updates', 0)} updates, macro {macro:.3f}"


def write(file: Path, result: dict) -> None:
    """Write a JSON whole or not at all."""
    draft = file.with_suffix(".part")
    draft.write_text(json.dumps(result) + "\n")
    draft.replace(file)


if __name__ == "__main__":
    main()
