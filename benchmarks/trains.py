"""Whether every way of training mends what the micro student gets wrong, and leaves alone what it can.

    python benchmarks/trains.py --seeds 0 1 2 [--only grpo-lora sft-full ...]

GRPO and supervised fine-tuning, as adapter and of all weights, on labelled samples of the skills that carry a
misconception and on as many of sound ones. Control: GRPO with its rewards permuted within each group. In one
process without Ray; measured greedily on 100 fresh items per skill, paired by item. Two minutes a row on one core.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import common
import numpy as np
from equal_budget_world import EnginePool, large_final

from dpe_ray.grading.options import spread_answers
from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.grading.rules import grade
from dpe_ray.micro.sources import materialise, student
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.train.methods import finetune
from dpe_ray.train.settings import GrpoSettings, Settings, SftSettings
from dpe_ray.types import PolicyRef, Sample

MAX_TOKENS = 40
GRPO = GrpoSettings(lora_rank=16, lora_alpha=32, prompts_per_step=16, steps=40, lr=5e-4, kl=0.02, max_tokens=MAX_TOKENS)
SFT = SftSettings(lora_rank=16, lora_alpha=32, lr=3e-3, epochs=3, batch_size=32, micro_batch=32, max_tokens=MAX_TOKENS)
WAYS: dict[str, Settings] = {
    "grpo-lora": GRPO,
    "grpo-full": replace(GRPO, tuning="full", lr=5e-5),
    "sft-lora": SFT,
    "sft-full": replace(SFT, tuning="full", lr=2e-4, epochs=5),
    "grpo-lora-permuted": replace(GRPO, permute_rewards=True),
    "grpo-full-permuted": replace(GRPO, tuning="full", lr=5e-5, permute_rewards=True),
}


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    start: PolicyRef
    engine: TransformersEngine
    items: Sequence[Sample]
    kinds: Sequence[str]
    """[items] kind of weakness."""

    def right(self, policy: PolicyRef) -> np.ndarray:
        """[items] 1 where the greedy answer is right, else 0."""
        self.engine.load_policy(policy)
        prompts = [answer_prompt(item) for item in self.items]
        groups = self.engine.rollout(prompts, group_size=1, temperature=0.0, top_p=1.0, max_tokens=MAX_TOKENS, seed=0)
        self.engine.load_policy(self.start)
        return np.array([grade(g.prompt.sample, g.rollouts[0].completion.text).correct for g in groups], dtype=float)


def main() -> None:
    """Train each way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--work", type=Path, default=Path("runs/trains"))
    args = parser.parse_args()
    world = materialise(args.work / "sources")
    store, truth = ImageStore(args.work / "images"), common.Truth(args.work)
    lessons = chosen(read_samples(str(world / "support.parquet"), store), truth)
    items = read_samples(str(large_final(args.work)), store)
    start = PolicyRef(str(student(args.work, 0)))
    engine = TransformersEngine(start.base, {"threads": 1})
    bench = Bench(start, engine, items, [truth.kind(item.skills[0]) for item in items])
    before, rows = bench.right(start), []
    for name, seed in product(args.only, args.seeds):
        out = str(args.work / f"{name}-seed-{seed}")
        began = time.monotonic()
        prompts = [answer_prompt(sample) for sample in spread_answers(lessons)]
        result = finetune(start, prompts, EnginePool(engine), WAYS[name], out=out, seed=seed)
        seconds = time.monotonic() - began
        changed = changes(before, bench.right(result.policy), bench.kinds)
        rows.append({"way": name, "seed": seed, "steps": result.steps, "seconds": seconds, **changed})
        print(f"{name} seed {seed}: {seconds:.0f} s", flush=True)
    print(common.table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    print(f"wrote {common.write('trains', {'lessons': len(lessons), 'rows': rows})}")


def chosen(support: Sequence[Sample], truth: common.Truth) -> list[Sample]:
    """Samples of the skills that carry a misconception, and as many of sound ones: full tuning forgets with fewer."""
    by_kind: dict[str, list[Sample]] = {}
    for sample in support:
        kind = truth.kind(truth.skill(sample.images[0].sha256, sample.question, sample.options))
        by_kind.setdefault(kind, []).append(sample)
    weak = by_kind["misconception"]
    return weak + by_kind["sound"][: len(weak)]


def changes(before: np.ndarray, after: np.ndarray, kinds: Sequence[str]) -> Mapping[str, object]:
    """Change of accuracy with its paired 95 % interval, of the targeted skills and of all others."""
    row: dict[str, object] = {}
    for name, wanted in (("targeted", True), ("others", False)):
        places = np.array([(kind == "misconception") == wanted for kind in kinds])
        difference = after[places] - before[places]
        spread = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
        mean = float(difference.mean())
        row |= {f"{name} before": float(before[places].mean()), f"{name} change": mean}
        row |= {"interval" if wanted else "their interval": f"{mean - spread:+.3f} to {mean + spread:+.3f}"}
    return row


if __name__ == "__main__":
    main()
