"""A diagnosis from recorded answers as a command: graded, shown, written."""

import re
from collections.abc import Collection
from pathlib import Path

from rich.table import Table

from dpe_ray.diagnose.responses import UNDECIDED, UNPARSABLE, diagnose_responses, read_responses
from dpe_ray.errors import StoreError
from dpe_ray.grading.intervals import wilson
from dpe_ray.rounds.store import StageFolder
from dpe_ray.types import Diagnosis

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What a log's names must not do to a terminal."""


def diagnose_recorded(file: Path, out: Path) -> Diagnosis:
    """Grade the answers of FILE and write OUT/diagnosis.json. Raises PoolError and StoreError."""
    diagnosis = diagnose_responses([response.graded() for response in read_responses(file)])
    try:
        StageFolder(out).save_json("diagnosis", diagnosis)
    except OSError as error:
        raise StoreError(f"--out {out}: cannot be written ({error.strerror}); give a folder") from error
    return diagnosis


def accuracy_table(diagnosis: Diagnosis) -> Table:
    """Accuracy with its 95 % Wilson interval per category, weakest first, and in all.

    `unparsable` and `undecidable` answers count as wrong; a judge may find some of the undecidable ones right.
    """
    table = Table(title=f"{diagnosis.probed} answers, {diagnosis.not_judged} not judged", title_justify="left")
    for name in ("category", "n", "correct", "unparsable", "undecidable", "accuracy", "95 % interval"):
        table.add_column(name, justify="left" if name == "category" else "right")
    counts = diagnosis.by_category()
    for name, (n, k) in sorted(counts.items(), key=lambda item: item[1][1] / max(item[1][0], 1)):
        table.add_row(CONTROL.sub("\ufffd", name), *_cells(n, k, *_failed(diagnosis, [name])))
    n, k = sum(n for n, _ in counts.values()), sum(k for _, k in counts.values())
    table.add_section()
    table.add_row("all", *_cells(n, k, *_failed(diagnosis, counts)))
    return table


def _failed(diagnosis: Diagnosis, categories: Collection[str]) -> tuple[int, int]:
    """Unparsable and undecidable answers."""
    types = [cell.error_types for cell in diagnosis.cells if cell.category in categories]
    return sum(t.get(UNPARSABLE, 0) for t in types), sum(t.get(UNDECIDED, 0) for t in types)


def _cells(n: int, correct: int, unparsable: int, undecidable: int) -> tuple[str, ...]:
    low, high = wilson(correct, n)
    return (
        str(n),
        str(correct),
        str(unparsable),
        str(undecidable),
        f"{correct / max(n, 1):.3f}",
        f"{low:.3f} - {high:.3f}",
    )
