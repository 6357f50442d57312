"""Which step of a wrong rationale is the mistake: one call for all methods, row by row through a mapper."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dpe_ray.diagnose.mistakes.chooser import TextOnly
from dpe_ray.diagnose.mistakes.methods import METHODS, PROMPTS, Case, LocateSettings
from dpe_ray.diagnose.mistakes.problem import problem_of, student_answer
from dpe_ray.diagnose.mistakes.steps import split_steps
from dpe_ray.errors import BadRequest, ConfigError, ModelUnavailable
from dpe_ray.grading.answering import collect
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import ChatDoor, ChatModel, MapSpec, Row, RowMapper
from dpe_ray.types import ErrorRecord, Graded, MistakeLocation, VerdictKind

UNAVAILABLE = "unavailable"
"""Status when the teacher could not be asked."""
NOWHERE = "none"
"""Method of the ablation: nobody is asked, and every answer that can be read abstains."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocateJob:
    """What a worker needs for rows `{"id", "graded"}`."""

    teacher: ChatDoor
    settings: LocateSettings
    prompt_file: str = ""
    """The user's own prompt for the method."""


async def locate_mistakes(
    graded: Sequence[Graded],
    teacher: ChatDoor,
    mapper: RowMapper,
    settings: LocateSettings,
    *,
    workers: tuple[int, int],
    concurrency: int,
    prompt_file: str = "",
) -> dict[str, MistakeLocation]:
    """Locate the mistake in every wrong answer, by sample id; what is right or not judged is left out.

    An answer without steps, or without an answer that can be read, is `unparsable` and costs no call.
    """
    spec = MapSpec(locate_rows, LocateJob(teacher, settings, prompt_file), workers, concurrency, "mistakes")
    rows = [{"id": g.sample.id, "graded": g} for g in graded if g.verdict.judged and not g.verdict.correct]
    return await collect(mapper, spec, rows, "location")


def locate_rows(job: LocateJob) -> Callable[[Row], Awaitable[Row]]:
    """Open the teacher's door and build the row function: `{"id", "graded"}` to `{"id", "location"}`.

    Raises ConfigError for an unknown method.
    """
    teacher, settings = job.teacher.open(), job.settings
    if settings.method not in (NOWHERE, *METHODS):
        raise ConfigError(
            f"no method {settings.method!r} locates mistakes; give one of {', '.join(METHODS)} or {NOWHERE}"
        )
    name = PROMPTS.get(settings.method, "answer_switch")
    prompt = PromptFile.load("dpe_ray.diagnose.mistakes", name, job.prompt_file)

    async def locate_row(row: Row) -> Row:
        return {"id": row["id"], "location": await locate(row["graded"], teacher, settings, prompt)}

    return locate_row


async def locate(graded: Graded, teacher: ChatModel, settings: LocateSettings, prompt: PromptFile) -> MistakeLocation:
    """Locate the mistake in one wrong answer; a teacher out of reach gives `unavailable`. Raises BudgetExceeded."""
    problem, steps = problem_of(graded), split_steps(graded.text)
    if graded.verdict.kind is VerdictKind.UNPARSABLE or problem is None or not steps:
        return MistakeLocation(settings.method, None, "unparsable")
    if settings.method == NOWHERE:
        return MistakeLocation(NOWHERE, None, "abstained")
    model = TextOnly(teacher)
    try:
        case = Case(problem, tuple(step.text for step in steps), model, prompt, settings)
        return await METHODS[settings.method](case)
    except (ModelUnavailable, BadRequest) as error:
        log.warning("mistake in the answer to %s: %s", graded.sample.id, error)
        return MistakeLocation(settings.method, None, UNAVAILABLE, calls=model.calls, unanswered=str(error))


def error_record(graded: Graded, location: MistakeLocation) -> ErrorRecord:
    """What is known about a wrong answer before its missing skills are named."""
    steps = tuple(step.text for step in split_steps(graded.text))
    answer = student_answer(graded.sample, graded.text) or ""
    return ErrorRecord(graded.sample.id, graded.sample.category, steps, answer, location, ())
