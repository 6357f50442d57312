"""How often the built-in programs label a sample wrongly, as their independent checkers see it, and how fast they draw.

    python benchmarks/construct.py [--samples 10000 --seed 0] [--progress FILE]

Every program in turn, its skills and difficulties by lot, until so many samples are confirmed; in every fourth sample
all names are random characters. A label is wrong when the checker comes to another answer. Such a sample is never
accepted: `wrong` is what the programs would do without their checkers, with the upper end of its 95 % Wilson interval.
Programs that edit pool images get crops of the photographs that scikit-learn and matplotlib bring along.
Then accepted samples per teacher call beside annotate's (`construct_calls.py`). About ten minutes on one core; with
`--progress` the same command goes on where it was interrupted.
"""

import argparse
import asyncio
import io
import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import common
import construct_calls
import matplotlib
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_sample_images

from dpe_ray.grading.intervals import wilson
from dpe_ray.pool.images import ImageStore
from dpe_ray.seeds import child_seed
from dpe_ray.supply.annotate.refusal import Refused
from dpe_ray.supply.construct.maker import Recipe, construct
from dpe_ray.supply.construct.program import Params
from dpe_ray.supply.construct.registry import BUILTIN, AnyProgram, load_programs
from dpe_ray.supply.gates import check_format, check_leak
from dpe_ray.types import ImageRef, Sample

PHOTOS, ODD, FILLED = 40, 4, 400
SAVED_EVERY = 100
"""Samples drawn."""
CHARACTERS = "abcXYZ0189 $^_{}\\%&#@<>/*+-=~.,;:!?()[]|'äéñßØλжЩ√≠→♥"
HEADER = ("program", "drawn", "confirmed", "wrong", "unconfirmed", "program error", "undrawable", "gated", "CPU ms")


@dataclass
class Drawn:
    """What was drawn so far, by program, category and reason."""

    samples: int
    """Wanted."""
    seed: int
    number: int = 0
    """Of the last sample; it alone decides what is drawn."""
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    """Seconds of processor time."""
    categories: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def begun(samples: int, seed: int, file: Path | None) -> "Drawn":
        """As the file says, where it is there and was written for the same."""
        told = json.loads(file.read_text()) if file and file.exists() else {}
        if (told.get("samples"), told.get("seed")) != (samples, seed):
            return Drawn(samples, seed)
        by_name = {name: Counter(told[name]) for name in ("spent", "categories", "reasons")}
        counts = {name: Counter(count) for name, count in told["counts"].items()}
        return Drawn(samples, seed, told["number"], counts, **by_name)

    def save(self, file: Path) -> None:
        """Write it, or leave what was written before."""
        half = file.with_suffix(".half")
        half.write_text(json.dumps(vars(self)))
        os.replace(half, file)


def main() -> None:
    """Draw, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--progress", type=Path, help="file to keep what was drawn so far in, and to go on from")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        store = ImageStore(Path(folder))
        result = measure(Drawn.begun(args.samples, args.seed, args.progress), args.progress, store)
        result["calls"] = asyncio.run(calls(Path(folder), store, args.seed))
    rows = [(name, *line.values()) for name, line in result["programs"].items()]
    print(common.table(HEADER, rows), end="\n\n")
    print(common.table(("category", "confirmed"), list(result["categories"].items())), end="\n\n")
    for reason in result["reasons"]:
        print(reason)
    speed = result["samples_per_cpu_second"]
    wrong, high = result["wrong_share"], result["wrong_share_high"]
    print(f"wrong {wrong:.4%} (at most {high:.4%}) of {result['drawn']}; {speed:.1f} samples a processor second")
    for name, made in result["calls"].items():
        print(
            f"{name}: {made['accepted']} samples for {made['calls']} teacher calls, {made['samples_per_call']:.2f} each"
        )
    print(f"wrote {common.write('construct', result)}")


def measure(drawn: Drawn, progress: Path | None, store: ImageStore) -> dict[str, Any]:
    """Draw until so many samples over all programs are confirmed; counts by program, category and reason."""
    programs, photos = list(load_programs().values()), photographs(store, drawn.seed)
    while drawn.categories.total() < drawn.samples:
        draw_next(drawn, programs, photos, store)
        if progress and drawn.number % SAVED_EVERY == 0:
            drawn.save(progress)
    return summary(drawn)


def draw_next(drawn: Drawn, programs: list[AnyProgram], photos: list[ImageRef], store: ImageStore) -> None:
    """Draw the next program's sample and count what became of it."""
    program, started = programs[drawn.number % len(programs)], time.process_time()
    drawn.number += 1
    counts = drawn.counts.setdefault(program.name, Counter())
    try:
        sample, outcome = draw(program, drawn.number, drawn.seed, photos, store), "confirmed"
        drawn.categories[sample.category] += 1
        counts["gated"] += bool(check_format(sample) or check_leak(sample))
    except Refused as refused:
        outcome = refused.gate
        drawn.reasons[f"{refused.gate}: {refused.reason}"] += outcome != "draw"
    drawn.spent[program.name] += time.process_time() - started
    counts[outcome] += 1
    counts["drawn"] += outcome != "draw"


async def calls(folder: Path, store: ImageStore, seed: int) -> dict[str, dict[str, float]]:
    """Samples per teacher call of both suppliers."""
    construct = await construct_calls.by_construct(store, FILLED, seed)
    annotate = await construct_calls.by_annotate(folder, store, FILLED, seed)
    return {"construct": construct_calls.told(construct), "annotate": construct_calls.told(annotate)}


def draw(program: AnyProgram, number: int, seed: int, photos: list[ImageRef], store: ImageStore) -> Sample:
    """One sample; `number` decides skill, difficulty and photograph."""
    rng = Random(child_seed(seed, "construct", number))
    low, high = program.difficulty
    params = program.sample(rng.choice(program.skills), rng.uniform(low, high), rng)
    if number // len(BUILTIN) % ODD == 0:
        params = renamed(program, params, rng)
    base = rng.choice(photos) if program.on_image else None
    recipe = Recipe(program.name, params, rng.randrange(2**31), base)
    return construct(program, recipe, store, program.categories[0])


def renamed(program: AnyProgram, params: Params, rng: Random) -> Params:
    """The same with every text replaced that may be any text: markup, symbols, accents, long and short."""
    told = params.model_dump_json()
    for text in dict.fromkeys(re.findall(r'(?<=[:\[,])"([^"]+)"(?=[,\]}])', told)):
        odd = "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(1, 10)))
        changed = told.replace(f'"{text}"', json.dumps(odd, ensure_ascii=False))
        if read := _readable(program, changed):
            params, told = read, changed
    return params


def _readable(program: AnyProgram, told: str) -> Params | None:
    try:
        return program.params.model_validate_json(told)
    except ValidationError:
        return None


def photographs(store: ImageStore, seed: int) -> list[ImageRef]:
    """Crops of three real photographs, by lot."""
    whole = [Image.fromarray(array) for array in load_sample_images().images]
    whole.append(Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB"))
    rng, found = Random(child_seed(seed, "photographs")), []
    for _ in range(PHOTOS):
        photo = rng.choice(whole)
        width, height = rng.randint(300, photo.width), rng.randint(300, photo.height)
        left, top = rng.randint(0, photo.width - width), rng.randint(0, photo.height - height)
        buffer = io.BytesIO()
        photo.crop((left, top, left + width, top + height)).save(buffer, "JPEG", quality=90)
        found.append(store.put(buffer.getvalue()))
    return found


def summary(made: Drawn) -> dict[str, Any]:
    """The table as JSON. Processor time holds drawing, checking and storing."""
    gates = ("drawn", "confirmed", "check", "unconfirmed", "program", "draw", "gated")
    drawn, wrong = (sum(count[gate] for count in made.counts.values()) for gate in ("drawn", "check"))
    return {
        "samples": made.samples,
        "seed": made.seed,
        "programs": {
            name: {gate: count[gate] for gate in gates}
            | {"cpu_ms": 1000 * made.spent[name] / max(1, count["drawn"] + count["draw"])}
            for name, count in made.counts.items()
        },
        "categories": dict(sorted(made.categories.items())),
        "drawn": drawn,
        "wrong_share": wrong / drawn,
        "wrong_share_high": wilson(wrong, drawn).high,
        "samples_per_cpu_second": drawn / sum(made.spent.values()),
        "reasons": [text for text, n in made.reasons.most_common(20) if n],
    }


if __name__ == "__main__":
    main()
