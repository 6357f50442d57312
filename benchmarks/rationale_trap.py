"""Whether supervised fine-tuning on short answers takes the rationales away, and what share of rationales keeps them.

    python benchmarks/rationale_trap.py --seed 1 --shares 0 0.3 0.6 0.75 1

The micro student is tuned (LoRA, 3 epochs) on 512 labelled samples without rationales, in one process without Ray. A
share of them gets the student's own rationale first, where one of 8 sampled answers is right. Measured on 480 probe
items, greedy: how many answers still work in numbered steps, and accuracy by kind of weakness. One to two minutes a
share on one core.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import common
from equal_budget_world import EnginePool

from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.grading.rules import grade
from dpe_ray.micro.sources import materialise, student
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.train.methods import finetune
from dpe_ray.train.reward import answer_format
from dpe_ray.train.settings import SftSettings
from dpe_ray.types import PolicyRef, Sample

LESSONS, ITEMS, MAX_TOKENS = 512, 480, 40


def main() -> None:
    """Tune once per share and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.3, 0.6, 0.75, 1.0])
    parser.add_argument("--work", type=Path, default=Path("runs/rationale_trap"))
    args = parser.parse_args()
    world = materialise(args.work / "sources")
    store, truth = ImageStore(args.work / "images"), common.Truth(args.work)
    lessons = [answer_prompt(s) for s in read_samples(str(world / "support.parquet"), store)[:LESSONS]]
    items = read_samples(str(world / "probe.parquet"), store)[:ITEMS]
    start = PolicyRef(str(student(args.work, 0)))
    engine = TransformersEngine(start.base, {"threads": 1})
    rows = [{"asked": "untrained", "reached": 0.0, **measure(engine, items, truth)}]
    for share in args.shares:
        settings = SftSettings(
            lora_rank=16, lora_alpha=32, lr=3e-3, epochs=3, batch_size=32, micro_batch=32, max_tokens=MAX_TOKENS,
            rationale_share=share,
        )  # fmt: skip
        out = str(args.work / f"share-{share}-seed-{args.seed}")
        result = finetune(start, lessons, EnginePool(engine), settings, out=out, seed=args.seed)
        engine.load_policy(result.policy)
        reached = fmean(step["rationale_share"] for step in result.metrics)
        rows.append({"asked": share, "reached": reached, **measure(engine, items, truth)})
    print(common.table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    print(f"wrote {common.write('rationale_trap', {'seed': args.seed, 'rows': rows})}")


def measure(engine: TransformersEngine, items: list[Sample], truth: common.Truth) -> dict[str, float]:
    """Share of greedy answers in numbered steps, and the share that is right: of all, and by kind of weakness."""
    prompts = [answer_prompt(item) for item in items]
    groups = engine.rollout(prompts, group_size=1, temperature=0.0, top_p=1.0, max_tokens=MAX_TOKENS, seed=0)
    right = defaultdict(list)
    steps = []
    for item, group in zip(items, groups, strict=True):
        text = group.rollouts[0].completion.text
        steps.append(answer_format(item, text))
        skill = truth.skill(item.images[0].sha256, item.question, item.options)
        for name in ("all", truth.kind(skill)):
            right[name].append(grade(item, text).correct)
    return {"with steps": fmean(steps), **{name: fmean(right[name]) for name in ("all", *common.KINDS)}}


if __name__ == "__main__":
    main()
