"""How the oracle reads a prompt: the role from its first line, the rest by the labels that our prompt files share."""

import re
from dataclasses import dataclass

LABELS = {
    "planner": ("Wanted cells:",),
    "cell planner": ("Cell:", "Exercise:", "Sample:"),
    "image selector": ("Cell:", "Category:", "Must show:", "Plan:", "Edit:"),
    "image editor": ("Cell:", "Category:", "Must show:", "Wish:"),
    "program planner": ("Cell:",),
    "question writer": ("Cell:", "Question type:", "Plan:", "Refused before:"),
    "validator": ("Category:", "Question:", "Options:", "Proposed answer:"),
    "judge": ("Question:", "Options:", "Reference answer:", "Student's answer:"),
    "skill analyst": ("Category:", "Question:", "Options:", "Known skills:"),
    "error analyst": (
        "Skills wanted:",
        "Question:",
        "Options:",
        "Reference answer:",
        "Student's answer:",
        "Student's steps:",
    ),
    "skill lister": ("Category:", "Question:", "Options:", "Answer:"),
    "observer": ("Question:", "Options:"),
    "reader": ("Question:", "Options:", "Known beforehand:", "Steps:"),
    "step judge": ("Question:", "Reference answer:", "Steps:"),
    "rationale writer": ("Question:", "Reference answer:"),
}
"""Role to its labels, in the order in which they stand."""
SOLVER = "solver"
"""The role of the plain answer prompt, which names none."""

_ROLE = re.compile(rf"You are the ({'|'.join(LABELS)})\b")
_OPTION = re.compile(r"\(([A-Z])\) (.+)")
_TASK = re.compile(r"Think in (?:short|fine) numbered steps")


@dataclass(frozen=True)
class Asked:
    """A prompt that was read."""

    role: str
    """A key of `LABELS`, or solver."""
    values: dict[str, str]
    """What stands behind each label, without the colon; absent labels are empty."""

    @property
    def question(self) -> str:
        """The question it is about; empty for planner and question writer."""
        return self.values.get("Question", "")

    @property
    def options(self) -> tuple[str, ...]:
        """Option texts in order A, B, C, ..."""
        return tuple(found[2] for line in self._lines("Options") if (found := _OPTION.fullmatch(line)))

    def first_line(self, label: str) -> str:
        """Give the value on the label's own line."""
        return self.values.get(label, "").split("\n")[0].strip()

    def listed(self, label: str) -> list[str]:
        """Give the `- ` lines that follow a label without a gap."""
        lines = []
        for line in self._lines(label):
            if line.startswith("- "):
                lines.append(line.removeprefix("- "))
            elif lines or line:
                break
        return lines

    def numbered(self, label: str) -> list[str]:
        """Give the lines numbered 1, 2, 3, ... that follow a label, without their numbers."""
        lines: list[str] = []
        for line in self._lines(label):
            number = f"{len(lines) + 1}. "
            if line.startswith(number):
                lines.append(line.removeprefix(number))
        return lines

    def _lines(self, label: str) -> list[str]:
        return self.values.get(label, "").split("\n")


def read_prompt(text: str) -> Asked:
    """Find role and labelled values; a text that names no role is the plain answer prompt."""
    found = _ROLE.match(text)
    if not found:
        return Asked(SOLVER, _plain(text))
    values: dict[str, list[str]] = {}
    labels = list(LABELS[found[1]])
    current: list[str] = []
    for line in text.split("\n"):
        label = next((label for label in labels if line.startswith(label)), "")
        if label:
            # a label counts once and in order: later text may quote one
            del labels[: labels.index(label) + 1]
            current = values[label.removesuffix(":")] = [line.removeprefix(label).strip()]
        else:
            current.append(line)
    return Asked(found[1], {label: "\n".join(lines).strip("\n") for label, lines in values.items()})


def _plain(text: str) -> dict[str, str]:
    head = _TASK.split(text)[0].strip().split("\n")
    options = [line for line in head if _OPTION.fullmatch(line)]
    question = [line for line in head if not _OPTION.fullmatch(line)]
    return {"Question": "\n".join(question).strip(), "Options": "\n".join(options)}
