"""Whether the answer that we read is the answer that was given: on recorded answers of GPT-4o to MMMU-Pro.

    python benchmarks/extraction.py FOLDER

The folder holds `mmmu_pro_gpt4o_standard10_{cot,direct}.jsonl` (github.com/MMMU-Benchmark/MMMU, commit bb0b95a,
mmmu-pro/output, Apache-2.0), each row with the letter that their own parser took. Counted is how often ours is equal,
and, of the direct answers that are read differently, who is right: every one was read by a person and the letter
that the response chooses written down (`said`, - for none) in adjudicated/mmmu_pro_direct.csv.

The rules were widened while looking at this file. As they were before, they differed on 167 responses and were right
on 146 of them, the recorded parser on 15.
"""

import argparse
import csv
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import common
from scipy.stats import binomtest

from dpe_ray.diagnose.responses.reading import read_responses
from dpe_ray.grading.rules import chosen_letter

TABLE = Path(__file__).parent / "adjudicated" / "mmmu_pro_direct.csv"
NONE = "-"


class Read(NamedTuple):
    """One response, read twice."""

    theirs: str
    ours: str
    answer: str
    """The reference."""


def main() -> None:
    """Print agreement and tally, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of mmmu_pro_*.jsonl")
    folder = parser.parse_args().data
    files = {name: read(folder / f"mmmu_pro_gpt4o_standard10_{name}.jsonl") for name in ("cot", "direct")}
    rows = {name: agreement(list(reads.values())) for name, reads in files.items()}
    header = ("file", "responses", "equal", "share equal", "unparsable", "accuracy, theirs", "accuracy, ours")
    print(common.table(header, [(name, *row.values()) for name, row in rows.items()]))
    verdicts = tally(files["direct"])
    print(common.table(("direct answers read differently", "n"), list(verdicts.items())))
    print(f"wrote {common.write('extraction', {'files': rows, 'direct_differences': verdicts})}")


def read(file: Path) -> dict[str, Read]:
    """Both readings of every response by item id."""
    recorded = (json.loads(line) for line in file.open(encoding="utf-8"))
    return {
        response.id: Read(
            row["pred_indexs"], chosen_letter(response.sample, response.text or "") or NONE, row["answer"]
        )
        for row, response in zip(recorded, read_responses(file), strict=True)
    }


def agreement(reads: list[Read]) -> dict[str, float]:
    """How often both read the same letter, and what accuracy follows from each reading."""
    n = len(reads)
    return {
        "responses": n,
        "equal": sum(r.theirs == r.ours for r in reads),
        "share_equal": sum(r.theirs == r.ours for r in reads) / n,
        "unparsable": sum(r.ours == NONE for r in reads),
        "accuracy_theirs": sum(r.theirs == r.answer for r in reads) / n,
        "accuracy_ours": sum(r.ours == r.answer for r in reads) / n,
    }


def tally(reads: dict[str, Read]) -> dict[str, float]:
    """Who read what was said, over the responses that are read differently; `open` were not looked at by a person."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        said = {row["id"]: row["said"] for row in csv.DictReader(file)}
    differing = {id_: r for id_, r in reads.items() if r.theirs != r.ours}
    judged = [(said[id_], r) for id_, r in differing.items() if id_ in said]
    right = Counter("ours" if r.ours == s else "theirs" if r.theirs == s else "neither" for s, r in judged)
    decided = right["ours"] + right["theirs"]
    return {
        "differences": len(differing),
        "adjudicated": len(judged),
        "open": len(differing) - len(judged),
        "ours_right": right["ours"],
        "theirs_right": right["theirs"],
        "neither_right": right["neither"],
        "sign_test_p": float(binomtest(right["ours"], decided).pvalue) if decided else 1.0,
    }


if __name__ == "__main__":
    main()
