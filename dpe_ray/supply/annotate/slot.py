"""One slot: an image or nothing goes in, a checked sample or a counted refusal comes out. Supply's recording border."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dpe_ray.errors import BudgetExceeded
from dpe_ray.ports import ChatDoor, ChatModel, Row, SlotBook
from dpe_ray.supply import gates
from dpe_ray.supply.annotate.acquisition import Acquisition
from dpe_ray.supply.annotate.agent import Tally
from dpe_ray.supply.annotate.cell_planner import CellPlanner
from dpe_ray.supply.annotate.edit_planner import EditPlanner
from dpe_ray.supply.annotate.image_selector import ImageSelector
from dpe_ray.supply.annotate.planner import Planner, PlanReply
from dpe_ray.supply.annotate.question_writer import QuestionWriter, Refusal
from dpe_ray.supply.annotate.refusal import SLOT_ERRORS, Refused, require, told
from dpe_ray.supply.annotate.solver import Solver, measure_difficulty
from dpe_ray.supply.annotate.validator import Validator
from dpe_ray.supply.tools.recorded import Tools
from dpe_ray.types import AnswerKind, Candidate, ImageRef, Provenance, Rejection, Sample

ROLES = ("planner", "question_writer", "validator", "solver", "student")
ACQUIRING = ("image_selector", "image_editor")
"""Roles beside `ROLES` of slots that begin with a cell."""


MENDABLE = ("format", "leak", "duplicate", "validator")
"""Gates that another question about the same image may pass."""
LATE = {"quota": "the cell was filled while this sample was made", "duplicate": gates.DUPLICATE}
"""What the book may still say of a sample that passed every gate."""


@dataclass(frozen=True)
class SlotConfig:
    """How slots are filled. Pickles when doors and contamination check do."""

    doors: Mapping[str, ChatDoor]
    """One per name in `ROLES`, and in `ACQUIRING` where there are tools; equal doors share one client."""
    contamination: Callable[[Sample], str | None] | None = None
    """Says why a sample is too near to a held-out item, or None."""
    pass_rate: tuple[float, float] = (0.3, 0.8)
    """Band of the student's pass rate, corrected for guessing, ends included."""
    pass_rate_samples: int = 9
    by_example: frozenset[str] = frozenset()
    """Cells that training teaches by completions: what the student never gets right is what they want, so the band has
    no lower end there."""
    solves: int = 1
    dissent: int = 0
    """How many of the solves may disagree with the answer."""
    attempts: int = 3
    """Tries of the question writer."""
    answer_tokens: int = 256
    """Length limit of an answer of solver or student."""
    round: int = 1
    policy_version: int = 0
    seed: int = 0
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Role, or task of a role, to a prompt file of the user's own."""
    tools: Tools | None = None
    """Given: a slot begins with a cell, and images are searched for it."""

    @property
    def most_calls(self) -> int:
        """Teacher calls of a slot whose every reply must be mended: planner, writer and validator in turn, solver."""
        return 3 + 4 * self.attempts + (5 if self.tools else 0)


@dataclass(frozen=True)
class SlotJob:
    """All that a worker needs."""

    config: SlotConfig
    book: SlotBook
    instructions: Mapping[str, str]
    """What a sample of a cell should exercise, per `category/skill`."""
    seen: frozenset[str] = frozenset()
    """`gates.sample_key` of what was accepted before."""


def annotate_slot(job: SlotJob) -> "Annotator":
    """Build what maps rows {slot, image} to rows {slot, outcome, calls}: the factory that `MapSpec` names.

    The image is an ImageRef, or a Rejection that says why it cannot be used; None where a slot begins with a cell.
    """
    return Annotator(job)


@dataclass
class Draft:
    """A slot while it is worked on."""

    slot: int
    image: ImageRef | None
    parents: tuple[ImageRef, ...] = ()
    """What the image was made of."""
    cell: str = ""
    """Set once the book gave a place."""
    sample: Sample | None = None
    tally: Tally = field(default_factory=Tally)

    def finished(self, round: int) -> Sample | None:
        """Give the sample as far as it got, with its provenance."""
        origin = Provenance("generated", round, self.cell, tuple(self.tally.steps), parents=self.parents)
        return replace(self.sample, provenance=origin) if self.sample else None


class Annotator:
    """The agents of one worker."""

    def __init__(self, job: SlotJob) -> None:
        config = job.config
        models, prompts = _open(config.doors), config.prompts
        self._config, self._book, self._job = config, job.book, job
        self._planner = Planner(models["planner"], prompts.get("planner", ""))
        self._writer = QuestionWriter(models["question_writer"], prompts.get("question_writer", ""))
        self._validator = Validator(models["validator"], prompts.get("validator", ""))
        # one greedy solve; several must be able to differ
        heat = 0.0 if config.solves < 2 else 1.0
        self._solver = Solver("solver", models["solver"], heat, config.answer_tokens, config.seed)
        self._student = Solver("student", models["student"], 1.0, config.answer_tokens, config.seed)
        self._acquisition = _acquisition(config, models) if config.tools else None

    async def __call__(self, row: Row) -> Row:
        """Fill one slot; costs 1 to `most_calls` teacher calls and one student call."""
        if isinstance(row["image"], Rejection):
            return {"slot": row["slot"], "outcome": replace(row["image"], slot=row["slot"]), "calls": 0}
        draft = Draft(row["slot"], row["image"])
        outcome = await self._outcome(draft)
        return {"slot": draft.slot, "outcome": outcome, "calls": draft.tally.calls}

    async def _outcome(self, draft: Draft) -> Candidate | Rejection:
        try:
            sample = await self._make(draft)
            if gate := await self._book.commit(draft.slot, gates.sample_key(sample), draft.tally.calls):
                raise Refused(gate, LATE[gate])
            return Candidate(draft.slot, sample)
        except SLOT_ERRORS as error:
            if isinstance(error, BudgetExceeded) and not draft.tally.calls:
                # only at the start of a slot: behind one that is cut off later, others may replay what was paid
                await self._book.close()
            await self._book.release(draft.slot, draft.tally.calls)
            gate, reason = told(error)
            return Rejection(draft.slot, gate, reason, draft.cell, draft.finished(self._config.round))

    async def _make(self, draft: Draft) -> Sample:
        plan = await (self._acquire(draft) if self._acquisition else self._plan(draft))
        await self._write(draft, plan)
        await self._solve(draft)
        sample = draft.finished(self._config.round)
        assert sample is not None, "a slot that passed every gate has a sample"
        return sample

    async def _plan(self, draft: Draft) -> PlanReply:
        book = self._book
        offered = await book.begin(draft.slot)
        if not offered:
            raise await self._closed()
        cells = {cell: self._job.instructions.get(cell, "") for cell in sorted(offered)}
        assert draft.image is not None, "a slot without tools begins with an image"
        plan = await self._planner.plan(draft.image, cells, draft.tally)
        if not plan.cell:
            raise Refused("no_open_cell", f"the image ({plan.image_category or 'unreadable'}) serves no wanted cell")
        if not await book.reserve(plan.cell, draft.slot):
            raise Refused("no_open_cell", f"{plan.cell} was closed meanwhile")
        draft.cell = plan.cell
        return plan

    async def _acquire(self, draft: Draft) -> PlanReply:
        acquisition = self._acquisition
        assert acquisition is not None, "a slot begins with a cell only where there are tools"
        place = await self._book.assign(draft.slot)
        if place is None:
            raise await self._closed()
        draft.cell = place.cell
        instruction = self._job.instructions.get(place.cell, "")
        acquired = await acquisition.acquire(draft.slot, place, instruction, draft.tally)
        draft.image, draft.parents = acquired.image, acquired.parents
        return acquired.plan

    async def _closed(self) -> Refused:
        closed_by = (await self._book.state()).closed_by or "what others filled meanwhile"
        return Refused("budget" if closed_by == "budget" else "no_open_cell", f"supply is closed by {closed_by}")

    async def _write(self, draft: Draft, plan: PlanReply) -> None:
        image, refusals = draft.image, list[Refusal]()
        assert image is not None, "questions are written about an image"
        while True:
            draft.sample = await self._writer.write(image, plan, refusals, draft.tally)
            try:
                return await self._check(draft.sample, draft)
            except Refused as refused:
                refusals.append(Refusal(draft.sample.question, refused.reason))
                if len(refusals) >= self._config.attempts or refused.gate not in MENDABLE:
                    raise

    async def _check(self, sample: Sample, draft: Draft) -> None:
        require("format", gates.check_format(sample))
        require("leak", gates.check_leak(sample))
        require("duplicate", gates.check_seen(sample, self._job.seen))
        if self._config.contamination:
            # an edit may lead the final image away from a held-out one that it was made of
            shown = replace(sample, images=(*sample.images, *draft.parents))
            require("contamination", self._config.contamination(shown))
        verdict = await self._validator.check(sample, draft.tally)
        require("category", gates.check_category(verdict.image_category, sample.category))
        require("validator", verdict.refusal())

    async def _solve(self, draft: Draft) -> None:
        sample, config = draft.sample, self._config
        assert sample is not None, "only a written sample is solved"
        if config.solves:
            agreed = await self._solver.solve(sample, config.solves, draft.tally)
            if agreed.count(False) > config.dissent:
                raise Refused("solver", f"{agreed.count(False)} of {len(agreed)} blind solves disagree with the answer")
        difficulty = await measure_difficulty(
            self._student, sample, config.pass_rate_samples, config.policy_version, draft.tally
        )
        draft.sample = replace(sample, difficulty=difficulty)
        options = len(sample.options) if sample.answer.kind is AnswerKind.CHOICE else 0
        band = gates.band_of(draft.cell, config.pass_rate, config.by_example)
        require("pass_rate", gates.check_pass_rate(difficulty.pass_rate, band, options))


def _open(doors: Mapping[str, ChatDoor]) -> dict[str, ChatModel]:
    opened: list[tuple[ChatDoor, ChatModel]] = []
    models: dict[str, ChatModel] = {}
    for role, own in doors.items():
        known = next((model for door, model in opened if door == own), None)
        models[role] = known or own.open()
        opened.append((own, models[role]))
    return models


def _acquisition(config: SlotConfig, models: Mapping[str, ChatModel]) -> Acquisition:
    assert config.tools is not None, "nothing is acquired without tools"
    prompts = config.prompts
    return Acquisition(
        CellPlanner(models["planner"], prompts.get("cell_planner", "")),
        ImageSelector(models["image_selector"], prompts.get("image_selector", "")),
        EditPlanner(models["image_editor"], prompts.get("image_editor", "")),
        config.tools.open(),
        config.seed,
    )
