"""How fast model calls are made: our client and mappers beside a plain asyncio client and a pool of threads.

    python benchmarks/throughput.py --items 5000 --pairs 5
    python benchmarks/throughput.py --items 20000 --pairs 1 --arms plain local cluster
    python benchmarks/throughput.py --items 5000 --pairs 5 --distilabel ENV/bin/python

One endpoint of 100 ms latency in a process of its own; every arm in a fresh process, the arms one after the other in
every pair, medians over the pairs. `steady` is the rate between a tenth and nine tenths of the completions, `whole` the
rate from the first row to the last; Ray is started before, and has mapped 64 rows. `cpu_ms` is what an item costs the
processes that ask (Ray's own not): on a busy machine the steadier figure. `memory` is the growth of resident bytes from
a quarter of the samples to the end, over all processes of an arm. `--distilabel` adds the arm of `distilabel_arm.py`,
run by the interpreter of an environment that has it.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from common import table, write
from throughput_arms import IN_FLIGHT, WORKERS, Noted, mapped, plain, threads

ARMS = ("plain", "local", "cluster", "threads")
PICTURES = 256


def main() -> None:
    """Run the arms, print the table and write the JSON beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--distilabel", default="", metavar="PYTHON", help="interpreter that has distilabel")
    parser.add_argument("--one", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--pictures", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        with tempfile.TemporaryDirectory() as folder:
            noted = run_arm(args.one, args.url, args.pictures, args.items, Path(folder))
        print(json.dumps(measured(noted)))
        return
    with tempfile.TemporaryDirectory() as folder, endpoint(args.latency) as url:
        draw_pictures(Path(folder))
        runs = [one_pair(args, url, folder) for _ in range(args.pairs)]
    result = {arm: {key: median(run[arm][key] for run in runs) for key in runs[0][arm]} for arm in runs[0]}
    print(told(result))
    write(
        f"throughput-{args.items}",
        {
            "items": args.items,
            "latency_s": args.latency,
            "in_flight": IN_FLIGHT,
            "cpus": os.cpu_count(),
            "median": result,
            "runs": runs,
        },
    )


def one_pair(args: argparse.Namespace, url: str, pictures: str) -> dict[str, dict[str, float]]:
    """Every arm once, one after the other."""
    figures = {arm: in_process(arm, url, pictures, args.items) for arm in args.arms}
    if args.distilabel:
        figures["distilabel"] = in_environment(args.distilabel, url, pictures, args.items)
    return figures


def run_arm(arm: str, url: str, pictures: Path, items: int, out: Path) -> Noted:
    """Run one arm in this process."""
    if arm == "threads":
        return threads(url, pictures, items, out)
    if arm == "plain":
        return asyncio.run(plain(url, pictures, items, out))
    if arm == "local":
        from dpe_ray.rounds.local import LocalMapper

        return asyncio.run(mapped(LocalMapper(), 1, url, pictures, items, out))
    from dpe_ray.runtime import session

    session.start(num_cpus=2)
    try:
        from dpe_ray.runtime.data_map import DataMapper

        # the diagnosis of a run comes before its supply: Ray is up, and has mapped something
        asyncio.run(mapped(DataMapper(), WORKERS, url, pictures, IN_FLIGHT, out / "before"))
        return asyncio.run(mapped(DataMapper(), WORKERS, url, pictures, items, out))
    finally:
        session.stop()


def measured(noted: Noted) -> dict[str, float]:
    """Items per second, steady and whole, and MiB of growth."""
    done, count = noted.done, len(noted.done)
    first, last = count // 10, count - count // 10 - 1
    growth = sum(seen[-1] - seen[len(seen) // 4] for seen in noted.memory.values())
    return {
        "steady": (last - first) / (done[last] - done[first]),
        "whole": count / done[-1],
        "first": done[0],
        "cpu_ms": 1000 * sum(noted.cpu.values()) / count,
        "memory": growth / 2**20,
    }


def in_process(arm: str, url: str, pictures: str, items: int) -> dict[str, float]:
    """Run one arm in a process of its own."""
    command = [sys.executable, __file__, "--one", arm, "--url", url, "--pictures", pictures, "--items", str(items)]
    figures: dict[str, float] = last_line(command, {"PYTHONPATH": os.pathsep.join(sys.path)})
    print(arm, json.dumps(figures), file=sys.stderr)
    return figures


def in_environment(python: str, url: str, pictures: str, items: int) -> dict[str, float]:
    """Run distilabel's arm."""
    script = Path(__file__).with_name("distilabel_arm.py")
    told = last_line(
        [python, str(script), "--url", url, "--pictures", pictures, "--items", str(items)], {"PYTHONWARNINGS": "ignore"}
    )
    figures = measured(Noted(done=told["done"], memory={0: told["memory"]}, cpu={0: told["cpu"]}))
    print("distilabel", json.dumps(figures), file=sys.stderr)
    return figures


def last_line(command: list[str], environment: dict[str, str]) -> Any:
    """Run a command; gives the JSON that it prints at last."""
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=whole).stdout
    return json.loads(out.splitlines()[-1])


@contextmanager
def endpoint(latency: float) -> Iterator[str]:
    """Hold an endpoint for the time of the block; gives its base URL."""
    command = [sys.executable, str(Path(__file__).with_name("endpoint.py")), "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.terminate()


def draw_pictures(folder: Path) -> None:
    """Draw the micro world's pictures as JPEG of 336 pixels, some ten kilobytes each."""
    from random import Random

    from dpe_ray.micro.world import CATEGORIES, draw, make_scene

    rng = Random("throughput")
    for number in range(PICTURES):
        picture = draw(make_scene(rng.choice(list(CATEGORIES)), 1, rng))
        picture.resize((336, 336)).save(folder / f"{number:03d}.jpg", quality=90)


def told(result: dict[str, dict[str, float]]) -> str:
    """The table: rates, and their shares of the plain client's."""
    base: dict[str, Any] = result.get("plain", {})
    rows = [
        (
            arm,
            r["steady"],
            r["whole"],
            *(r[k] / base[k] if base else "-" for k in ("steady", "whole")),
            r["cpu_ms"],
            r["first"],
            r["memory"],
        )
        for arm, r in result.items()
    ]
    return table(
        ("arm", "steady/s", "whole/s", "of plain", "of plain, whole", "CPU ms", "first after s", "growth MiB"), rows
    )


if __name__ == "__main__":
    main()
