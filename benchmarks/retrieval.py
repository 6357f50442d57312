"""What retrieval costs on a support set of the paper's size, and whether it finds what it should.

    python benchmarks/retrieval.py [--documents 1500000 --queries 1000] [--shards 3]

Three tables: an index of 1.5 M synthetic skill texts (arXiv 2412.15652 retrieves from 1.55 M samples) built and asked;
targeted against random samples per budget; paraphrases. About three minutes on one core, 1.1 GiB. With --shards the
first table alone, over Ray actors of this machine.
"""

import argparse
import asyncio
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import common
import numpy as np
import psutil
from retrieval_toys import Size, paraphrase, targeted_against_random

from dpe_ray.runtime import session
from dpe_ray.supply.retrieve.ranking import Ranker
from dpe_ray.supply.retrieve.shards import split
from dpe_ray.supply.retrieve.sparse import SparseIndex

VOCABULARY = 50_000
WORDS_PER_TEXT = 9
WORDS_PER_QUERY = 6
HITS = 256
BUDGETS = (0.01, 0.03, 0.1, 0.3)
SEEDS = range(8)


def main() -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_500_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--shards", type=int, default=0, help="Ray actors; 0: none, in this process")
    args = parser.parse_args()
    tables = {"scale": [asyncio.run(measure_scale(args.documents, args.queries, args.shards))]}
    if not args.shards:
        tables |= {"targeting": measure_targeting(), "paraphrase": measure_paraphrases()}
    for rows in tables.values():
        print(common.table(tuple(rows[0]), [tuple(row.values()) for row in rows]), end="\n\n")
    print(f"wrote {common.write('retrieval-sharded' if args.shards else 'retrieval', tables)}")


async def measure_scale(documents: int, queries: int, shards: int) -> dict[str, Any]:
    """Seconds and gibibytes of an index that answers queries.

    CPU seconds are those of this process, without its actors; the load tells what else the machine did.
    """
    texts, asked = make_texts(documents, WORDS_PER_TEXT, seed=0), make_texts(queries, WORDS_PER_QUERY, seed=1)
    named = {f"{i:016x}": text for i, text in enumerate(texts)}
    before = gibibytes()
    started, cpu_started = time.monotonic(), time.process_time()
    index = await start_shards(named, shards) if shards else SparseIndex(named)
    indexed, cpu_indexed = time.monotonic(), time.process_time()
    rankings = await index.rank(list(asked), HITS)
    ended = time.monotonic()
    return {
        "documents": documents,
        "queries": queries,
        "shards": shards,
        "hits per query": fmean(map(len, rankings)),
        "index seconds": indexed - started,
        "query seconds": ended - indexed,
        "index CPU seconds here": cpu_indexed - cpu_started,
        "query CPU seconds here": time.process_time() - cpu_indexed,
        "GiB of the texts": before,
        "GiB at the peak": gibibytes() + actor_gibibytes(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def make_texts(count: int, words: int, seed: int) -> Sequence[str]:
    """Texts of words whose frequencies follow Zipf's law, as those of languages do."""
    rng = np.random.default_rng(seed)
    frequencies = 1 / np.arange(1, VOCABULARY + 1)
    drawn = rng.choice(VOCABULARY, size=(count, words), p=frequencies / frequencies.sum()).astype(np.int32)
    names = np.array([f"word{i}" for i in range(VOCABULARY)], dtype=object)
    return [" ".join(names[row]) for row in drawn]


async def start_shards(documents: dict[str, str], shards: int) -> Ranker[str]:
    """The same over Ray actors of this machine."""
    from dpe_ray.runtime.sharded_index import ActorParts

    session.start(num_cpus=shards, object_store_mb=1024)
    return await ActorParts().words(split(documents, shards))


def gibibytes() -> float:
    """Peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def actor_gibibytes() -> float:
    """Memory of the index actors as they are, pages of the object store that they share included."""
    actors = [p for p in psutil.process_iter(["cmdline"]) if "ray::SparseIndex" in " ".join(p.info["cmdline"] or ())]
    return sum(actor.memory_info().rss for actor in actors) / 2**30


def measure_targeting() -> list[dict[str, float]]:
    """Mean over the seeds, per budget as a share of the support set."""
    rows = []
    for share in BUDGETS:
        size = replace(Size(), budget=round(share * Size().support))
        runs = [targeted_against_random(seed, size) for seed in SEEDS]
        margins = [run["targeted"] - run["random"] for run in runs]
        means = {name: fmean(run[name] for run in runs) for name in runs[0]}
        rows.append({"budget": share, **means, "least margin": min(margins), "wins": sum(m > 0 for m in margins)})
    return rows


def measure_paraphrases() -> list[dict[str, float]]:
    """Precision among the first 100 of 1,200, of which about 100 show the skill; chance is .083.

    By the share of documents that use the query's own words, and the noise of the embedder.
    """
    rows = []
    for shared, noise in ((0.0, 1.0), (0.0, 1.5), (0.5, 1.0), (0.5, 1.5)):
        runs = [paraphrase(seed, shared, noise) for seed in SEEDS]
        rows.append({"shared": shared, "noise": noise, **{name: fmean(run[name] for run in runs) for name in runs[0]}})
    return rows


if __name__ == "__main__":
    session.prepare_environment(throw_away_token=True)
    main()
