"""What a weak cell lacks, measured: the first change of conditions that repairs a failed item names its need.

Per failed item, in this order:

1. `read`: the answer could not be parsed, but the judge reads it as right: format.
2. `sampled`: one of k sampled answers is right, and the cell's answers depend on the item: elicitable. Where they do
   not (`sampling.agreement` near 0), a right answer among k is luck: a blind student that guesses numbers from 1 to 6
   passes pass@8 in 77 of 100 cases.
3. `facts`: right when the facts of the image are given as text: perception.
4. `zoom`: right when the part of the image that matters is enlarged: perception.
5. `shuffled`: right when the options stand in other orders: format.
6. `judge`: nothing repaired it, the answers are guesses, and the judge says that something was seen wrongly:
   perception. It stands in for 3 and 4 with students that cannot use facts or larger pictures.
7. `none`: knowledge.

Repaired means right in most of k answers, so that a coin tossed under easier conditions repairs nothing.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dpe_ray.diagnose.interventions import Asking, enlarged, observe, reordered, with_facts
from dpe_ray.diagnose.sampling import Draws, agreement
from dpe_ray.errors import BadReply, BadRequest, ModelUnavailable
from dpe_ray.grading.answering import collect
from dpe_ray.grading.judge import Judge, judge_prompt
from dpe_ray.grading.rules import grade
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatDoor, ChatRequest, MapSpec, Message, Row, RowMapper
from dpe_ray.seeds import child_seed
from dpe_ray.types import Attribution, Graded, Need, VerdictKind

ORDER = (Need.ELICITABLE, Need.FORMAT, Need.PERCEPTION, Need.KNOWLEDGE)
"""From the cheapest remedy to the dearest: a tie goes to the first."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RouteSettings:
    """How needs are measured."""

    image_folder: str
    """Where enlarged pictures are kept; every worker and every model reaches it."""
    k: int = 8
    """Sampled answers per item and per intervention."""
    repaired: float = 0.75
    """Least share of right answers under an intervention that counts as repaired, 0-1."""
    informed: float = 0.2
    """Least chance-corrected agreement of a cell whose answers are no guesses; below 0.2 it is slight at most."""
    seed: int = 0


class Named(NamedTuple):
    """The need of one item, and what named it."""

    need: Need
    by: str
    """read, sampled, facts, zoom, shuffled, judge or none."""


@dataclass(frozen=True)
class RouteJob:
    """What a worker needs for rows `{"id", "graded", "survives", "misseen"}`."""

    student: ChatDoor
    teacher: ChatDoor
    """Judge and observer."""
    settings: RouteSettings
    max_tokens: int
    judge_file: str = ""
    observer_file: str = ""


async def measure_needs(
    graded: Sequence[Graded],
    drawn: Mapping[str, Draws],
    attributions: Mapping[str, Attribution],
    student: ChatDoor,
    teacher: ChatDoor,
    mapper: RowMapper,
    *,
    settings: RouteSettings,
    max_tokens: int,
    workers: tuple[int, int],
    concurrency: int,
    prompts: Mapping[str, str] | None = None,
) -> dict[str, Named]:
    """Name the need of every failed item by sample id; `drawn` and `attributions` by id, skills are the cells' own.

    Per item that sampling does not settle: one teacher call and at most three student calls of k answers. Items without
    draws, and items that an outage left open, are missing from the result.
    """
    guessing = guessing_cells(graded, drawn, settings.informed)
    named, rows = {}, []
    for g in graded:
        if not g.verdict.judged or g.verdict.correct or g.sample.id not in drawn:
            continue
        is_guess = cell_of(g) in guessing
        survives = any(drawn[g.sample.id].hits) and not is_guess
        if survives and g.verdict.kind is not VerdictKind.UNPARSABLE:
            named[g.sample.id] = Named(Need.ELICITABLE, "sampled")
            continue
        misseen = is_guess and attributions[g.sample.id].error_type == "visual_recognition"
        rows.append({"id": g.sample.id, "graded": g, "survives": survives, "misseen": misseen})
    files = prompts or {}
    job = RouteJob(student, teacher, settings, max_tokens, files.get("judge", ""), files.get("observer", ""))
    tried = await collect(mapper, MapSpec(route_rows, job, workers, concurrency, "routes"), rows, "named")
    return named | {id_: found for id_, found in tried.items() if found is not None}


def guessing_cells(graded: Sequence[Graded], drawn: Mapping[str, Draws], informed: float) -> set[tuple[str, str]]:
    """Cells whose sampled answers hardly depend on the item; a cell that cannot be measured is none."""
    members: dict[tuple[str, str], list[Draws]] = {}
    for g in graded:
        if g.sample.id in drawn:
            members.setdefault(cell_of(g), []).append(drawn[g.sample.id])
    kappas = {cell: agreement(draws) for cell, draws in members.items()}
    return {cell for cell, kappa in kappas.items() if kappa is not None and kappa < informed}


def cell_of(graded: Graded) -> tuple[str, str]:
    """Category and skill."""
    return graded.sample.category, graded.sample.skills[0]


def route(named: Iterable[Named]) -> tuple[Need | None, dict[str, int]]:
    """The most frequent need of a cell's items, None without any, and the count of each."""
    counts = Counter(found.need for found in named)
    most = max(ORDER, key=lambda need: counts[need]) if counts else None
    return most, {str(need): counts[need] for need in ORDER if counts[need]}


def route_rows(job: RouteJob) -> Callable[[Row], Awaitable[Row]]:
    """Open the doors and build the row function: it gives `{"id", "named"}`, None when an outage left it open."""
    trials = _Trials(job)

    async def route_row(row: Row) -> Row:
        try:
            named = await trials.name(row["graded"], row["survives"], row["misseen"])
        except (ModelUnavailable, BadRequest, BadReply) as error:
            log.warning("need of %s: %s", row["id"], error)
            named = None
        return {"id": row["id"], "named": named}

    return route_row


class _Trials:
    """The student under easier and easier conditions."""

    def __init__(self, job: RouteJob) -> None:
        self._job = job
        self._student, self._teacher = job.student.open(), job.teacher.open()
        self._judge = Judge(self._teacher, judge_prompt(job.judge_file))
        self._observer = PromptFile.load("dpe_ray.diagnose", "observer", job.observer_file)
        self._facts = PromptFile.load("dpe_ray.diagnose", "given_facts")

    async def name(self, graded: Graded, survives: bool, misseen: bool) -> Named:
        """Try one condition after the other."""
        sample = graded.sample
        if graded.verdict.kind is VerdictKind.UNPARSABLE and (await self._judge.judge(sample, graded.text)).correct:
            return Named(Need.FORMAT, "read")
        if survives:
            return Named(Need.ELICITABLE, "sampled")
        observed = await observe(sample, self._teacher, self._observer)
        if await self._repairs([with_facts(sample, observed.facts, self._facts)], "facts"):
            return Named(Need.PERCEPTION, "facts")
        zoomed = await asyncio.to_thread(enlarged, sample, observed, Path(self._job.settings.image_folder))
        if await self._repairs([zoomed], "zoom"):
            return Named(Need.PERCEPTION, "zoom")
        if await self._repairs(reordered(sample), "shuffled"):
            return Named(Need.FORMAT, "shuffled")
        return Named(Need.PERCEPTION, "judge") if misseen else Named(Need.KNOWLEDGE, "none")

    async def _repairs(self, askings: Sequence[Asking], name: str) -> bool:
        """Share about k answers among the askings, and see whether enough of them are right."""
        if not askings:
            return False
        settings = self._job.settings
        each = max(1, settings.k // len(askings))
        hits = await asyncio.gather(*[self._hits(asking, each, name) for asking in askings])
        return sum(map(sum, hits)) >= settings.repaired * each * len(askings)

    async def _hits(self, asking: Asking, n: int, name: str) -> list[bool]:
        request = ChatRequest(
            (Message("user", asking.text, asking.images),),
            "student",
            asking.sample.id,
            asking.prompt_version,
            n=n,
            temperature=1.0,
            max_tokens=self._job.max_tokens,
            seed=child_seed(self._job.settings.seed, name, asking.sample.id),
        )
        return [grade(asking.sample, text).correct for text in (await self._student.chat(request)).texts]
