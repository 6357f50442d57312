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


def instruction(cell: CellDiagnosis, missing: Sequence[str] = ()) -> str:
    """Say in at most 400 characters which errors a new sample should provoke.

    `missing` are the skills that errors lacked, in the analyst's words. Holds words of a model about failed answers:
    data for the planner, on one line, without control characters.
    """
    skill = cell.skill.replace("_", " ")
    if cell.attempts:
        parts = [f"Exercise {skill}: {cell.correct} of {cell.attempts} answers were right."]
    elif missing:
        parts = [f"Exercise {skill}: errors elsewhere lacked it."]
    else:
        return f"Exercise {skill}: nothing is known about this cell yet."
    causes = [_MEANING[name] for name in _most_frequent(cell.error_types) if name in _MEANING][:2]
    if causes:
        parts.append(f"Mostly {' and '.join(causes)}.")
    if lacked := _first_two(missing):
        parts.append("Missing: " + "; ".join(lacked) + ".")
    if seen := _first_two([f.attribution.description for f in cell.failures]):
        parts.append("Seen: " + "; ".join(seen) + ".")
    return _line(" ".join(parts), LONGEST)


def _most_frequent(counts: dict[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))


def _first_two(texts: Sequence[str]) -> Sequence[str]:
    lines = [_line(text, LONGEST_DESCRIPTION).rstrip(".") for text in texts]
    return list(dict.fromkeys(line for line in lines if line))[:2]


def _line(text: str, longest: int) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 3].rstrip() + "..."
