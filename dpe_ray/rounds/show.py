"""A run's summary as tables for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from dpe_ray.rounds.results import RoundResults
from dpe_ray.rounds.spending import in_words
from dpe_ray.rounds.store import RunFolder


def told(run: RunFolder) -> Iterator[Table | str]:
    """One table of the rounds, one of the suites by category, the open round, what it took, and what stopped it."""
    summary = run.summary()
    yield _rounds(summary)
    yield from RoundResults(run, len(summary["rounds"]) + 1, {}, {}, notify=lambda line: None).lines()
    if summary["base"] and summary["final"]:
        yield _final(summary["base"], summary["final"])
    cost = summary["cost"]
    usd = f", {cost['usd']:.2f} US$" if cost["usd"] else ""
    yield f"spent: {cost['calls']} calls, {cost['tokens']} tokens{usd}"
    if budget := summary.get("budget"):  # runs of earlier versions have none
        yield f"of the budget: {', '.join(in_words(budget))}"
    if summary["rounds"] and (last := summary["rounds"][-1])["decision"] == "stop":
        yield f"ended after round {last['index']}: {last['reasons'][0]}"
    if summary["error"]:
        yield f"failed: {summary['error']}"


def _rounds(summary: Mapping[str, Any]) -> Table:
    table = Table(title=f"rounds ({summary['status']})", title_justify="left")
    for name in (
        "round",
        "decision",
        "gate macro",
        "proposed",
        "accepted",
        "rejected",
        "reward or loss",
        "calls",
        "seconds",
    ):
        table.add_column(name, justify="left" if name in ("decision", "rejected") else "right")
    for entry in summary["rounds"]:
        train, gate = entry["train"], entry["gate"]
        table.add_row(
            str(entry["index"]),
            entry["decision"],
            f"{gate['macro']:.3f}" if gate else "-",
            str(entry["proposed"]),
            str(entry["accepted"]),
            ", ".join(f"{reason} {n}" for reason, n in entry["rejected"].items()) or "none",
            _trained(train),
            str(entry["cost"]["calls"]),
            f"{sum(entry['seconds'].values()):.0f}",
        )
    return table


def _trained(train: Mapping[str, Any]) -> str:
    """First and last of what fine-tuning brings up or down."""
    for name in ("reward", "loss"):
        if (first := train.get(f"{name}_first")) is not None:
            return f"{'loss ' if name == 'loss' else ''}{first:.2f} -> {train[f'{name}_last']:.2f}"
    return "-"


def _final(base: Mapping[str, Any], final: Mapping[str, Any]) -> Table:
    table = Table(title="final suites: base and kept policy", title_justify="left")
    for name in ("category", "n", "base", "kept", "change", "kept, 95 % interval"):
        table.add_column(name, justify="left" if name == "category" else "right")
    for name, after in final["by_category"].items():
        before = base["by_category"].get(name)
        if before is None:
            continue
        change = after["accuracy"] - before["accuracy"]
        table.add_row(
            name,
            str(after["n"]),
            f"{before['accuracy']:.3f}",
            f"{after['accuracy']:.3f}",
            f"{change:+.3f}",
            f"{after['low']:.3f} - {after['high']:.3f}",
        )
    change = final["macro"] - base["macro"]
    table.add_row("macro", str(final["n"]), f"{base['macro']:.3f}", f"{final['macro']:.3f}", f"{change:+.3f}", "")
    return table
