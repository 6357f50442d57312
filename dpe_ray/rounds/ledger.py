"""The book of model calls: read from the stages' journals, written as one line per call key, with attempts."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dpe_ray.config import RunConfig
from dpe_ray.models.journal import read_journal
from dpe_ray.models.price import Price
from dpe_ray.rounds.record import Cost
from dpe_ray.rounds.store import write_text
from dpe_ray.supply.tools.recorded import OPERATIONS, PAINTING, SEARCH

STUDENT = "student"
TOOLS = (SEARCH, OPERATIONS)
"""Roles in the journal behind which no model stands: they are no calls, and cost nothing."""
SUPPORT = "support"
"""Journal stage of the support set's skills: asked once for a run, and paid by the round that first needs them."""


def prices(config: RunConfig) -> dict[str, Price]:
    """What each entry of `models` charges."""
    return {name: Price(**model.price.model_dump()) for name, model in config.models.items()}


_SUMMED = ("paid", "attempts", "prompt_tokens", "completion_tokens", "seconds")


def read_calls(journal: Path) -> list[dict[str, Any]]:
    """One entry per stage and call key, texts left out: a finished line when there is one. Tools keep their results.

    `paid` counts the finished lines: two workers may pay the same call. Attempts, tokens and seconds are summed, those
    of outages included; `images` is per call.
    """
    calls: dict[tuple[str, str], dict[str, Any]] = {}
    for folder in sorted(journal.glob("*/")):
        for line in read_journal(folder):
            texts = line.pop("texts", ())
            if line["role"] in (*TOOLS, PAINTING):
                line["results"] = [json.loads(text) for text in texts]
            line |= {"stage": folder.name, "paid": int("error" not in line)}
            earlier = calls.get(at := (folder.name, line["key"]), {})
            kept = line if line["paid"] or not earlier else earlier
            calls[at] = kept | {name: line[name] + earlier.get(name, 0) for name in _SUMMED}
    return list(calls.values())


def write_ledger(run: Path) -> None:
    """RUN/ledger.jsonl from RUN/journal: called by the driver at each stage's end."""
    lines = [json.dumps(call, sort_keys=True) for call in read_calls(run / "journal")]
    write_text(run / "ledger.jsonl", "".join(line + "\n" for line in lines))


def cost(calls: Iterable[Mapping[str, Any]], prices: Mapping[str, Price], stage_prefix: str = "") -> Cost:
    """Sum the calls of the stages whose name begins with the prefix; `prices` by entry of `models`."""
    total = Cost()
    for call in calls:
        if not call["stage"].startswith(stage_prefix) or call["role"] in TOOLS:
            continue
        price = prices.get(call["endpoint"], Price())
        usd = price.usd(call["prompt_tokens"], call["completion_tokens"], call["paid"] * call["images"])
        tokens = call["prompt_tokens"] + call["completion_tokens"]
        total += Cost(call["paid"], call["paid"] * (call["role"] != STUDENT), tokens, usd)
    return total


def round_cost(calls: Iterable[Mapping[str, Any]], prices: Mapping[str, Price], earlier: Iterable[Cost]) -> Cost:
    """What a round took when it closes: all calls so far but those that the records of earlier rounds count."""
    return cost(calls, prices) - sum(earlier, Cost())
