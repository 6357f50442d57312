"""k sampled answers of the student per item: what learnability, needs and votes are read from."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from dpe_ray.errors import BadRequest, ModelUnavailable
from dpe_ray.grading.answering import collect
from dpe_ray.grading.extract import answer_span, extract_answer
from dpe_ray.grading.numbers import parse_number
from dpe_ray.grading.prompt import ANSWER_VERSION, answer_prompt
from dpe_ray.grading.rules import grade, normalise
from dpe_ray.ports import ChatDoor, ChatRequest, MapSpec, Message, Row, RowMapper
from dpe_ray.seeds import child_seed
from dpe_ray.types import AnswerKind, Sample

FEWEST = 4
"""Answers per item from which p(1-p) is estimated."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draws:
    """One item and the k answers that were sampled at temperature 1."""

    sample: Sample
    texts: tuple[str, ...]

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """[k] What each says, comparable between items and option orders; empty where it says nothing readable."""
        return tuple(spoken_answer(self.sample, text) for text in self.texts)

    @cached_property
    def hits(self) -> tuple[bool, ...]:
        """[k] Right by rule; what cannot be parsed, and what only a judge could decide, is wrong."""
        return tuple(grade(self.sample, text).correct for text in self.texts)


@dataclass(frozen=True)
class DrawJob:
    """What a worker needs for rows `{"id", "sample"}`."""

    student: ChatDoor
    k: int
    max_tokens: int
    seed: int


async def draw_answers(
    samples: Sequence[Sample],
    student: ChatDoor,
    mapper: RowMapper,
    *,
    k: int,
    max_tokens: int,
    seed: int,
    workers: tuple[int, int],
    concurrency: int,
) -> dict[str, Draws]:
    """Sample k answers per item, by sample id; items that the student could not be asked about are left out.

    One student call of k answers each; equal requests for equal items and seed.
    """
    spec = MapSpec(draw_rows, DrawJob(student, k, max_tokens, seed), workers, concurrency, "draws")
    rows = [{"id": id_, "sample": sample} for id_, sample in {s.id: s for s in samples}.items()]
    drawn: dict[str, Draws | None] = await collect(mapper, spec, rows, "draws")
    return {id_: draws for id_, draws in drawn.items() if draws is not None}


def draw_rows(job: DrawJob) -> Callable[[Row], Awaitable[Row]]:
    """Open the student's door and build the row function: `{"id", "sample"}` to `{"id", "draws"}`, or None."""
    student = job.student.open()

    async def draw_row(row: Row) -> Row:
        sample = row["sample"]
        request = ChatRequest(
            (Message("user", answer_prompt(sample).text, sample.images),),
            "student",
            sample.id,
            ANSWER_VERSION,
            n=job.k,
            temperature=1.0,
            max_tokens=job.max_tokens,
            seed=child_seed(job.seed, "draws", sample.id),
        )
        try:
            return {"id": row["id"], "draws": Draws(sample, (await student.chat(request)).texts)}
        except (ModelUnavailable, BadRequest) as error:
            log.warning("draws of %s: %s", sample.id, error)
            return {"id": row["id"], "draws": None}

    return draw_row


def spoken_answer(sample: Sample, text: str) -> str:
    """Bring a completion's answer into one form: an option's text for a letter, plain digits for a number."""
    said = extract_answer(text, sample.answer.kind, sample.letters)
    if sample.answer.kind is AnswerKind.CHOICE:
        option = normalise(sample.options[sample.letters.index(said)] if said else answer_span(text) or "")
        return option if option in map(normalise, sample.options) else ""
    if sample.answer.kind is AnswerKind.NUMBER:
        number = parse_number(said) if said else None
        return f"{number.value:g}{'%' if number.percent else ''}" if number else ""
    return normalise(said or "")


def learnability(drawn: Sequence[Draws]) -> float | None:
    """Mean over items of k/(k-1) p(1-p), an unbiased estimate of the variance that a policy gradient feeds on.

    0 for items that are always or never solved, at most k/(4(k-1)); None without an item of at least 4 answers.
    """
    items = [draws.hits for draws in drawn if len(draws.hits) >= FEWEST]
    return fmean(_variance(hits) for hits in items) if items else None


def agreement(drawn: Sequence[Draws]) -> float | None:
    """How far answers depend on the item, beyond chance: about 0 for a blind guesser, 1 for one fixed answer per item.

    Fleiss' kappa (1971): a is the share of equal pairs of answers within items, c that between different items, and
    kappa = (a - c) / (1 - c). Right answers are not needed. None with fewer than two items of two answers, or when all
    items get one and the same answer.
    """
    counts = [Counter(draws.answers) for draws in drawn if len(draws.answers) > 1]
    if len(counts) < 2:
        return None
    within = fmean(_equal_pairs(count) / (n * (n - 1)) for count in counts if (n := count.total()))
    together = sum(counts, Counter[str]())
    total = together.total()
    # ordered pairs of answers to different items
    equal = sum(n * n for n in together.values()) - sum(n * n for count in counts for n in count.values())
    between = equal / (total * total - sum(count.total() ** 2 for count in counts))
    return (within - between) / (1 - between) if between < 1 else None


def _equal_pairs(count: Counter[str]) -> int:
    return sum(n * (n - 1) for n in count.values())


def _variance(hits: Sequence[bool]) -> float:
    k, p = len(hits), fmean(hits)
    return k / (k - 1) * p * (1 - p)
