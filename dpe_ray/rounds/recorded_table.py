"""A diagnosis from recorded answers as a table for the terminal."""

import re
from collections.abc import Collection

from rich.table import Table

from dpe_ray.diagnose.responses.counting import UNDECIDED, UNPARSABLE
from dpe_ray.grading.intervals import wilson
from dpe_ray.rounds.log_scores import LogScores
from dpe_ray.rounds.recorded_report import MEANING, Recorded
from dpe_ray.types import Diagnosis

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What a log's names must not do to a terminal."""
COLUMNS = ("category", "n", "correct", "unparsable", "undecidable", "accuracy", "95 % interval")
LOG_COLUMNS = ("log's accuracy", "of open ones right")
LOG_MEANING = (
    "log's accuracy: mean of the scores that the log holds; of open ones right: unparsable or undecidable answers that "
    "they take for right.",
)


def accuracy_table(recorded: Recorded) -> Table:
    """Accuracy with its 95 % Wilson interval per category, weakest first, and in all.

    Two more columns where the log has scores: their mean over the judged answers, and how many of the unparsable and
    undecidable ones they take for right.
    """
    diagnosis, scores = recorded.diagnosis, recorded.scores
    table = Table(title=f"{diagnosis.probed} answers, {diagnosis.not_judged} not judged", title_justify="left")
    scored = bool(scores[""].n)
    for name in COLUMNS + LOG_COLUMNS * scored:
        table.add_column(name, justify="left" if name == "category" else "right")
    counts = diagnosis.by_category()
    for name, (n, k) in sorted(counts.items(), key=lambda item: item[1][1] / max(item[1][0], 1)):
        of_log = _log_cells(scores.get(name)) if scored else ()
        table.add_row(CONTROL.sub("\ufffd", name), *_cells(n, k, *_failed(diagnosis, [name])), *of_log)
    n, k = sum(n for n, _ in counts.values()), sum(k for _, k in counts.values())
    table.add_section()
    table.add_row("all", *_cells(n, k, *_failed(diagnosis, counts)), *(_log_cells(scores[""]) if scored else ()))
    table.caption, table.caption_justify = "\n".join(MEANING + LOG_MEANING * scored), "left"
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


def _log_cells(scores: LogScores | None) -> tuple[str, str]:
    if scores is None:
        return "-", "-"
    return f"{scores.accuracy:.3f}", f"{scores.opened_right} of {scores.opened}"
