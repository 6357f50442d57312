"""What a sample for a cell should exercise, in words, from how the cell failed."""

from collections.abc import Sequence

from dpe_ray.types import CellDiagnosis

LONGEST = 400
"""Characters."""
LONGEST_DESCRIPTION = 110

_MEANING = {
    "visual_recognition": "things in the image are seen wrongly",
    "calculation": "the numbers are seen but combined wrongly",
    "reasoning": "the facts are right but the conclusion is not",
    "misunderstanding": "the question is taken for another one",
}


def instruction(cell: CellDiagnosis) -> str:
    """Say in at most 400 characters which errors a new sample should provoke.

    Holds words of a model about failed answers: data for the planner, on one line, without control characters.
    """
    skill = cell.skill.replace("_", " ")
    if not cell.attempts:
        return f"Exercise {skill}: nothing is known about this cell yet."
    parts = [f"Exercise {skill}: {cell.correct} of {cell.attempts} answers were right."]
    causes = [_MEANING[name] for name in _most_frequent(cell.error_types) if name in _MEANING][:2]
    if causes:
        parts.append(f"Mostly {' and '.join(causes)}.")
    if seen := _descriptions(cell):
        parts.append("Seen: " + "; ".join(seen) + ".")
    return _line(" ".join(parts), LONGEST)


def _most_frequent(counts: dict[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))


def _descriptions(cell: CellDiagnosis) -> Sequence[str]:
    texts = [_line(f.attribution.description, LONGEST_DESCRIPTION).rstrip(".") for f in cell.failures]
    return list(dict.fromkeys(text for text in texts if text))[:2]


def _line(text: str, longest: int) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 3].rstrip() + "..."
