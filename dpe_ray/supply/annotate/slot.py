"""One slot: an image goes in, a checked sample or a counted refusal comes out. The recording border of supply."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dpe_ray.errors import BadReply, BadRequest, BudgetExceeded, DpeError, ModelUnavailable, PoolError
from dpe_ray.ports import ChatDoor, ChatModel, QuotaBook, Row
from dpe_ray.supply import gates
from dpe_ray.supply.annotate.agent import Tally
from dpe_ray.supply.annotate.planner import Planner, PlanReply
from dpe_ray.supply.annotate.question_writer import QuestionWriter, Refusal
from dpe_ray.supply.annotate.solver import Solver, measure_difficulty
from dpe_ray.supply.annotate.validator import Validator
from dpe_ray.types import AnswerKind, Candidate, ImageRef, Provenance, Rejection, Sample

ROLES = ("planner", "question_writer", "validator", "solver", "student")


class Refused(DpeError):
    """A gate said no: ends the slot, or the attempt."""

    def __init__(self, gate: str, reason: str) -> None:
        super().__init__(gate, reason)
        self.gate, self.reason = gate, reason


GATE_OF: dict[type[DpeError], str] = {
    ModelUnavailable: "outage",
    BadReply: "unparsable",
    BadRequest: "refused_by_endpoint",
    BudgetExceeded: "budget",
    PoolError: "image",
}
"""Failures that belong to one slot. Any other error breaks the stage."""
MENDABLE = ("format", "leak", "duplicate", "validator")
"""Gates that another question about the same image may pass."""
LATE = {"quota": "the cell was filled while this sample was made", "duplicate": gates.DUPLICATE}
"""What the book may still say of a sample that passed every gate."""
SLOT_ERRORS: tuple[type[DpeError], ...] = (Refused, *GATE_OF)


@dataclass(frozen=True)
class SlotConfig:
    """How slots are filled. Pickles when doors and contamination check do."""

    doors: Mapping[str, ChatDoor]
    """One per name in `ROLES`; equal doors share one client."""
    contamination: Callable[[Sample], str | None] | None = None
    """Says why a sample is too near to a held-out item, or None."""
    pass_rate: tuple[float, float] = (0.3, 0.8)
    """Band of the student's pass rate, corrected for guessing, ends included."""
    pass_rate_samples: int = 9
    solves: int = 1
    attempts: int = 3
    """Tries of the question writer."""
    answer_tokens: int = 256
    """Length limit of an answer of solver or student."""
    round: int = 1
    policy_version: int = 0
    seed: int = 0
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Role to a prompt file of the user's own."""


@dataclass(frozen=True)
class SlotJob:
    """All that a worker needs."""

    config: SlotConfig
    book: QuotaBook
    instructions: Mapping[str, str]
    """What a sample of a cell should exercise, per `category/skill`."""
    seen: frozenset[str] = frozenset()
    """`gates.sample_key` of what was accepted before."""


def annotate_slot(job: SlotJob) -> "Annotator":
    """Build what maps rows {slot, image} to rows {slot, outcome, calls}: the factory that `MapSpec` names.

    The image is an ImageRef, or a Rejection that says why it cannot be used.
    """
    return Annotator(job)


@dataclass
class Draft:
    """A slot while it is worked on."""

    slot: int
    image: ImageRef
    cell: str = ""
    """Set once the book gave a place."""
    sample: Sample | None = None
    tally: Tally = field(default_factory=Tally)

    def finished(self, round: int) -> Sample | None:
        """Give the sample as far as it got, with its provenance."""
        origin = Provenance("generated", round, self.cell, tuple(self.tally.steps))
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

    async def __call__(self, row: Row) -> Row:
        """Fill one slot; costs 1 to 3 + 4 x attempts teacher calls and one student call."""
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
            if isinstance(error, BudgetExceeded) and not draft.cell:
                # only at the start of a slot: behind one that is cut off later, others may replay what was paid
                await self._book.close()
            await self._book.release(draft.slot, draft.tally.calls)
            gate, reason = _told(error)
            return Rejection(draft.slot, gate, reason, draft.cell, draft.finished(self._config.round))

    async def _make(self, draft: Draft) -> Sample:
        plan = await self._plan(draft)
        await self._write(draft, plan)
        await self._solve(draft)
        sample = draft.finished(self._config.round)
        assert sample is not None, "a slot that passed every gate has a sample"
        return sample

    async def _plan(self, draft: Draft) -> PlanReply:
        book = self._book
        offered = await book.begin(draft.slot)
        if not offered:
            closed_by = (await book.state()).closed_by
            raise Refused("budget" if closed_by == "budget" else "no_open_cell", f"supply is closed by {closed_by}")
        cells = {cell: self._job.instructions.get(cell, "") for cell in sorted(offered)}
        plan = await self._planner.plan(draft.image, cells, draft.tally)
        if not plan.cell:
            raise Refused("no_open_cell", f"the image ({plan.image_category or 'unreadable'}) serves no wanted cell")
        if not await book.reserve(plan.cell, draft.slot):
            raise Refused("no_open_cell", f"{plan.cell} was closed meanwhile")
        draft.cell = plan.cell
        return plan

    async def _write(self, draft: Draft, plan: PlanReply) -> None:
        refusals: list[Refusal] = []
        while True:
            draft.sample = await self._writer.write(draft.image, plan, refusals, draft.tally)
            try:
                return await self._check(draft.sample, draft.tally)
            except Refused as refused:
                refusals.append(Refusal(draft.sample.question, refused.reason))
                if len(refusals) >= self._config.attempts or refused.gate not in MENDABLE:
                    raise

    async def _check(self, sample: Sample, tally: Tally) -> None:
        _pass("format", gates.check_format(sample))
        _pass("leak", gates.check_leak(sample))
        _pass("duplicate", gates.check_seen(sample, self._job.seen))
        if self._config.contamination:
            _pass("contamination", self._config.contamination(sample))
        verdict = await self._validator.check(sample, tally)
        _pass("category", gates.check_category(verdict.image_category, sample.category))
        _pass("validator", verdict.refusal())

    async def _solve(self, draft: Draft) -> None:
        sample, config = draft.sample, self._config
        assert sample is not None, "only a written sample is solved"
        if config.solves:
            agreed = await self._solver.solve(sample, config.solves, draft.tally)
            if not all(agreed):
                raise Refused("solver", f"{agreed.count(False)} of {len(agreed)} blind solves disagree with the answer")
        difficulty = await measure_difficulty(
            self._student, sample, config.pass_rate_samples, config.policy_version, draft.tally
        )
        draft.sample = replace(sample, difficulty=difficulty)
        options = len(sample.options) if sample.answer.kind is AnswerKind.CHOICE else 0
        _pass("pass_rate", gates.check_pass_rate(difficulty.pass_rate, config.pass_rate, options))


def _pass(gate: str, reason: str | None) -> None:
    if reason:
        raise Refused(gate, reason)


def _told(error: DpeError) -> tuple[str, str]:
    if isinstance(error, Refused):
        return error.gate, error.reason
    return next(gate for kind, gate in GATE_OF.items() if isinstance(error, kind)), str(error)


def _open(doors: Mapping[str, ChatDoor]) -> dict[str, ChatModel]:
    opened: list[tuple[ChatDoor, ChatModel]] = []
    models: dict[str, ChatModel] = {}
    for role in ROLES:
        known = next((model for door, model in opened if door == doors[role]), None)
        models[role] = known or doors[role].open()
        opened.append((doors[role], models[role]))
    return models
