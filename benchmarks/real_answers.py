"""How close 200 of a real model's answers come to what all 1,730 say.

    python benchmarks/real_answers.py --data FOLDER [--draws 400] [--seed 0]

FOLDER holds GPT-4o's recorded answers to MMMU-Pro with ten options, with (cot) and without (direct) a rationale:
mmmu-pro/output of MMMU-Benchmark/MMMU, commit bb0b95a, Apache-2.0. Categories come from the image kinds by
mmmu_pro_kinds.yaml, those under 30 items are pooled into mixed. Truth: accuracy of each category over all items, and
share x (1 - accuracy) as the mixture, with the shares of the 1,730. Rows: a simple random draw, raw (a category without
an item has the accuracy of the whole); as many items of every category, raw and posterior; and ours, whose second half
is sent by `second_batch`. The set is finite, so an answer that was seen is known: accuracy = (seen right + unseen x
posterior mean) / items, and what ours gains over the stratified posterior it gains by asking the three categories of 33
items in full. The tiers (DPE, arXiv 2602.22859) weigh by the raw accuracy of the same 200 items.
"""

import argparse
import ast
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import yaml
from diagnosis_quality import PROBES, Array, by_tier, errors_of, normalised, ours, raw

from dpe_ray.diagnose.adaptive import second_batch
from dpe_ray.diagnose.probe import even_allocation

FILES = ("cot", "direct")
SMALLEST = 30
"""Items; smaller categories are pooled."""
RANDOM, STRATIFIED = "random, raw", "stratified, raw"
OURS = "posterior, second half adaptive"

Errors = tuple[float, float, float]


def main() -> None:
    """Measure both files, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of mmmu_pro_*.jsonl")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows, categories = [], {}
    for name in FILES:
        items = read(args.data / f"mmmu_pro_gpt4o_standard10_{name}.jsonl")
        found, of_file = quality(*items, args.draws, args.seed)
        rows += [{"answers": name, **row} for row in of_file]
        categories[name] = found
    header = tuple(rows[0])
    print(common.table(header, [[row[key] for key in header] for row in rows]))
    result = {"draws": args.draws, "seed": args.seed, "probes": PROBES, "categories": categories, "rows": rows}
    print(f"wrote {common.write('real_answers', result)}")


def read(file: Path) -> tuple[list[str], Array]:
    """Category of every item, small ones pooled, and whether it was answered right, [items] of 0 and 1."""
    kinds: dict[str, str] = yaml.safe_load(Path(__file__).with_name("mmmu_pro_kinds.yaml").read_text())
    lines = [json.loads(line) for line in file.open(encoding="utf-8")]
    first = [next(iter(ast.literal_eval(line["img_type"])), "Other") for line in lines]
    sizes = Counter(kinds[kind] for kind in first)
    categories = [kinds[kind] if sizes[kinds[kind]] >= SMALLEST else "mixed" for kind in first]
    return categories, np.array([int(line["if_right"]) for line in lines])


def quality(
    categories: Sequence[str], right: Array, draws: int, seed: int
) -> tuple[dict[str, dict[str, float]], list[dict[str, Any]]]:
    """What is true of each category and how many of it ours asks, and the mean errors of every way to probe."""
    names = sorted(set(categories))
    of_item = np.array([names.index(name) for name in categories])
    members = [right[of_item == index] for index in range(len(names))]
    rng = np.random.default_rng(seed)
    errors: dict[str, list[Errors]] = {}
    asked: list[Array] = []
    for draw in range(draws):
        queues = [rng.permutation(group) for group in members]
        probes = probed(names, queues, draw, rng)
        asked.append(probes[OURS])
        for name, n in probes.items():
            errors.setdefault(name, []).append(errors_on(queues, n, shrunk=name.startswith("posterior")))
    table = {
        name: {"items": len(group), "accuracy": float(group.mean()), "asked by ours": float(n)}
        for name, group, n in zip(names, members, np.mean(asked, axis=0), strict=True)
    }
    return table, _rows({name: np.mean(values, axis=0) for name, values in errors.items()})


def probed(names: Sequence[str], queues: Sequence[Array], draw: int, rng: np.random.Generator) -> dict[str, Array]:
    """[categories] items asked by every way to probe; `queues` are outcomes in the order in which they are asked."""
    size = np.array([len(queue) for queue in queues])
    half, even = (_even(names, size, probes, draw) for probes in (PROBES // 2, PROBES))
    further = _further(names, half, _right(queues, half), size)
    return {
        RANDOM: rng.multivariate_hypergeometric(size, PROBES),
        STRATIFIED: even,
        "posterior, stratified": even,
        OURS: half + further,
    }


def errors_on(queues: Sequence[Array], n: Array, shrunk: bool) -> Errors:
    """Error of the accuracies, L1 of the mixture, and L1 of the tiers from the same items."""
    size, truth = np.array([len(queue) for queue in queues]), np.array([queue.mean() for queue in queues])
    shares, correct = normalised(size), _right(queues, n)
    accuracy = raw(n, correct)
    mixture = normalised(shares * (1 - accuracy))
    tiers = errors_of(accuracy, by_tier(n, correct), shares, truth)[1]
    if shrunk:
        mean, mixture = ours(n, correct, shares)
        accuracy = (correct + (size - n) * mean) / size
    return (*errors_of(accuracy, mixture, shares, truth), tiers)


def _even(names: Sequence[str], size: Array, probes: int, seed: int) -> Array:
    allocation = even_allocation(dict(zip(names, size.tolist(), strict=True)), probes, seed)
    return np.array([allocation[name] for name in names])


def _further(names: Sequence[str], asked: Array, correct: Array, size: Array) -> Array:
    counts = {name: (int(n), int(k)) for name, n, k in zip(names, asked, correct, strict=True)}
    available = dict(zip(names, (size - asked).tolist(), strict=True))
    taken = second_batch(counts, available, PROBES - int(asked.sum()), whole_set=True)
    return np.array([taken[name] for name in names])


def _right(queues: Sequence[Array], n: Array) -> Array:
    return np.array([queue[:asked].sum() for queue, asked in zip(queues, n, strict=True)])


def _rows(means: dict[str, Array]) -> list[dict[str, Any]]:
    return [
        {
            "method": name,
            "accuracy error": float(accuracy),
            "of random raw": float(accuracy / means[RANDOM][0]),
            "of stratified raw": float(accuracy / means[STRATIFIED][0]),
            "mixture L1": float(mixture),
            "tiers' L1": float(tiers),
            "of tiers'": float(mixture / tiers),
        }
        for name, (accuracy, mixture, tiers) in means.items()
    ]


if __name__ == "__main__":
    main()
