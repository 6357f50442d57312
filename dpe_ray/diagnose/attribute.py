"""Why an answer failed, as a judge sees it. One call per failed item."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dpe_ray.errors import BadReply, BadRequest, ModelUnavailable
from dpe_ray.grading.judge import Judge, judge_prompt
from dpe_ray.ports import ChatDoor, Row
from dpe_ray.taxonomy import ERROR_TYPES
from dpe_ray.types import Attribution, Graded

NOT_JUDGED = "not_judged"
"""Error type of a failure that no judge could be asked about."""
LONGEST_DESCRIPTION = 300
"""Characters kept of the judge's words."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AttributeJob:
    """What a worker needs for rows `{"id", "graded"}`."""

    judge: ChatDoor
    prompt_file: str = ""
    """The user's own judge prompt."""


def attribute_rows(job: AttributeJob) -> Callable[[Row], Awaitable[Row]]:
    """Open the judge's door and build the row function: `{"id", "graded"}` to `{"id", "attribution"}`."""
    judge = Judge(job.judge.open(), judge_prompt(job.prompt_file))

    async def attribute_row(row: Row) -> Row:
        return {"id": row["id"], "attribution": await attribute(row["graded"], judge)}

    return attribute_row


async def attribute(graded: Graded, judge: Judge) -> Attribution:
    """Ask the judge why an answer failed.

    An outage gives `not_judged`, a reply that cannot be read after one repair or names no known type gives `other`.
    """
    try:
        said = await judge.judge(graded.sample, graded.text)
    except (ModelUnavailable, BadRequest) as error:
        log.warning("attribution of %s: %s", graded.sample.id, error)
        return Attribution(NOT_JUDGED, "", str(error))
    except BadReply as error:
        log.warning("attribution of %s: %s", graded.sample.id, error)
        return Attribution("other", "")
    name = (said.error_type or "").strip().lower().replace(" ", "_")
    description = " ".join((said.description or "").split())[:LONGEST_DESCRIPTION]
    return Attribution(name if name in ERROR_TYPES else "other", description)
