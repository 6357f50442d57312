"""What is learned from: images, answers, samples, and where they came from."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property


def content_id(*parts: object) -> str:
    """16 hex digits of the SHA-256 of the parts' canonical JSON: the one way an id is made."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ImageRef:
    """One image by content; its bytes stay in the image store."""

    sha256: str
    """Of the stored bytes, 64 hex digits."""
    phash: str
    """Perceptual hash, 64 bits as 16 hex digits."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    media_type: str
    """image/png, image/jpeg, ..."""
    uri: str
    """Where the bytes are: a path or any fsspec URL."""
    origin: str = "pool"
    """pool, search, edit or construct."""
    licence: str = ""
    """As the source stated it; empty when it stated none."""
    source: str = ""
    """Where it was found: file and row in the pool, the page on the web, or what was edited and how."""
    query: str = ""
    """What it was searched by; empty for one that nobody searched for."""


class AnswerKind(StrEnum):
    """How an answer is compared."""

    CHOICE = "choice"
    """The letter of an option."""
    NUMBER = "number"
    """A number, equal within the tolerance."""
    TEXT = "text"
    """A word or short phrase."""


@dataclass(frozen=True)
class Answer:
    """A reference answer."""

    kind: AnswerKind
    value: str
    aliases: tuple[str, ...] = ()
    """Other texts that count as right."""
    tolerance: float = 0.0
    """Absolute, for numbers."""


@dataclass(frozen=True)
class AgentStep:
    """One model call that took part in making a sample."""

    role: str
    prompt_version: str
    model: str
    call: str
    """Key of the call in the journal."""


@dataclass(frozen=True)
class Provenance:
    """Where a sample came from, and what asked for it."""

    source: str
    """support, generated, retrieved, constructed or replay."""
    round: int = 0
    cell: str = ""
    """The `category/skill` whose quota it fills."""
    steps: tuple[AgentStep, ...] = ()
    recipe: str = ""
    """What makes a constructed sample again, as JSON: program, version, params, seed and base image; else empty."""
    parents: tuple[ImageRef, ...] = ()
    """Images that the sample's own was made of; none for one that was taken as it is."""


@dataclass(frozen=True)
class Difficulty:
    """How often one policy solves the sample."""

    pass_rate: float
    """0-1 over `n` sampled answers."""
    n: int
    policy_version: int


@dataclass(frozen=True)
class Sample:
    """One image-question-answer item. Never changed: `dataclasses.replace` makes another."""

    images: tuple[ImageRef, ...]
    question: str
    answer: Answer
    options: tuple[str, ...] = ()
    """Texts of the options of a choice question, in order A, B, C, ..."""
    rationale: str = ""
    category: str = ""
    skills: tuple[str, ...] = ()
    provenance: Provenance = Provenance("support")
    difficulty: Difficulty | None = None

    @cached_property
    def id(self) -> str:
        """Hash of images, question, options and answer; labels and provenance do not change it."""
        return content_id([i.sha256 for i in self.images], self.question, self.options, self.answer.value)

    @property
    def letters(self) -> str:
        """The letters of the options: `"ABCD"` for four."""
        return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(self.options)]


@dataclass(frozen=True)
class Candidate:
    """A sample that passed every gate."""

    slot: int
    sample: Sample


@dataclass(frozen=True)
class Rejection:
    """A slot that gave no sample, and why; the sample is kept as far as it got."""

    slot: int
    gate: str
    """The gate or agent that refused: one word, counted in summary.json."""
    reason: str
    """One sentence for a person."""
    cell: str = ""
    sample: Sample | None = None
