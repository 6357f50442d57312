"""Whether a run makes the student better where it is weak, without making it worse elsewhere.

    python benchmarks/learns.py --seeds 0 1 2

Runs jobs/micro.yaml per seed; prints the final suite by kind of weakness, greedy accuracy and pass@8, and the change
per category with Holm-adjusted p of a fall. About six minutes a seed on two cores.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import common

from dpe_ray.config import DecisionConfig
from dpe_ray.evaluate.compare import compare
from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.grading.rules import grade
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.rounds.record import RoundRecord
from dpe_ray.rounds.store import RunFolder
from dpe_ray.types import PolicyRef, Sample

K = 8
PASS_ITEMS = 40
"""Items per skill that pass@8 is measured on."""


def main() -> None:
    """Run the seeds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/learns"))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    args = parser.parse_args()
    results = {}
    for seed in args.seeds:
        folder = args.runs / f"seed-{seed}"
        seconds = common.run(folder, f"seed={seed}", *args.overrides)
        results[str(seed)] = measure(folder) | {"seconds": round(seconds)}
        print(told(seed, results[str(seed)]))
    changes = [r["macro_final"] - r["macro_base"] for r in results.values()]
    print(f"\nmacro change per seed: {', '.join(f'{c:+.3f}' for c in changes)}, mean {fmean(changes):+.3f}")
    print(f"wrote {common.write('learns', {'seeds': results})}")


def measure(folder: Path) -> dict:
    """Everything the tables say about one run."""
    run, truth = RunFolder(folder), common.Truth(folder)
    samples = {s.id: s for s in read_samples(str(final_suite(folder)), ImageStore(run.images))}
    skills = {id_: truth.skill(s.images[0].sha256, s.question, s.options) for id_, s in samples.items()}
    base, final = (run.final().load_verdicts(name, samples) for name in ("base", "final"))
    comparison = compare(base, final, DecisionConfig(suite="final"))
    by_kind = defaultdict(lambda: {"base": [], "final": []})
    for name, graded in (("base", base), ("final", final)):
        for item in graded:
            if item.verdict.judged:
                by_kind[truth.kind(skills[item.sample.id])][name].append(item.verdict.correct)
    passes = {name: pass_at_k(policy, samples, skills, truth) for name, policy in policies(run).items()}
    return {
        "macro_base": comparison.before.macro,
        "macro_final": comparison.after.macro,
        "macro_low": comparison.macro_low,
        "macro_high": comparison.macro_high,
        "kinds": {
            kind: {
                "n": len(rows["base"]),
                "base": fmean(rows["base"]),
                "final": fmean(rows["final"]),
                "pass_base": passes["base"][kind],
                "pass_final": passes["final"][kind],
            }
            for kind, rows in sorted(by_kind.items())
        },
        "categories": {
            name: {"n": c.n, "change": c.change, "low": c.low, "high": c.high, "p_fall": c.p_fall}
            for name, c in comparison.by_category.items()
        },
        "rounds": common.summary(folder)["rounds"],
    }


def final_suite(folder: Path) -> Path:
    """The final suite that the run was measured on."""
    return next((folder / "sources").glob("micro-world-*")) / "final.parquet"


def policies(run: RunFolder) -> dict[str, PolicyRef]:
    """Base and kept policy of a run."""
    records = []
    while (folder := run.round(len(records) + 1)).has("record"):
        records.append(folder.load_json("record", RoundRecord))
    return {"base": records[0].start, "final": records[-1].kept}


def pass_at_k(
    policy: PolicyRef, samples: dict[str, Sample], skills: dict[str, str], truth: common.Truth
) -> dict[str, float]:
    """Share of items with at least one right answer among K sampled at temperature 1, by kind of weakness."""
    chosen: dict[str, list[Sample]] = defaultdict(list)
    for id_, sample in samples.items():
        if len(chosen[skills[id_]]) < PASS_ITEMS:
            chosen[skills[id_]].append(sample)
    engine = TransformersEngine(policy.base, {"threads": 1})
    engine.load_policy(policy)
    hits = defaultdict(list)
    for skill, members in chosen.items():
        prompts = [answer_prompt(sample) for sample in members]
        groups = engine.rollout(prompts, group_size=K, temperature=1.0, top_p=1.0, max_tokens=40, seed=0)
        for group in groups:
            right = any(grade(group.prompt.sample, r.completion.text).correct for r in group.rollouts)
            hits[truth.kind(skill)].append(right)
    return {kind: fmean(values) for kind, values in hits.items()}


def told(seed: int, result: dict) -> str:
    """The tables of one seed."""
    kinds = [
        (kind, row["n"], row["base"], row["final"], row["final"] - row["base"], row["pass_base"], row["pass_final"])
        for kind, row in result["kinds"].items()
    ]
    categories = [
        (name, c["n"], c["change"], f"{c['low']:+.3f} to {c['high']:+.3f}", c["p_fall"])
        for name, c in result["categories"].items()
    ]
    head = f"\nseed {seed}: macro {result['macro_base']:.3f} -> {result['macro_final']:.3f} in {result['seconds']} s\n"
    return "\n".join(
        [
            head,
            common.table(("kind", "n", "base", "kept", "change", f"pass@{K} base", f"pass@{K} kept"), kinds),
            "",
            common.table(("category", "n", "change", "95 % interval", "p of a fall (Holm)"), categories),
        ]
    )


if __name__ == "__main__":
    main()
