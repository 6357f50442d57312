"""Screening: which support samples the current policy solves sometimes, so that only those are labelled and found."""

from collections.abc import Sequence
from dataclasses import replace

from dpe_ray.config import RunConfig
from dpe_ray.diagnose.sampling import Draws, draw_answers
from dpe_ray.errors import ModelUnavailable
from dpe_ray.ports import ChatDoor, RowMapper
from dpe_ray.seeds import child_seed
from dpe_ray.supply.gates import check_pass_rate
from dpe_ray.types import Difficulty, Sample


async def screened(
    samples: Sequence[Sample], policy_version: int, student: ChatDoor, mapper: RowMapper, config: RunConfig
) -> tuple[Sample, ...]:
    """Samples whose pass rate lies in the band of `supply.pass_rate`, with that rate, in the order of `samples`.

    One student call of `supply.pass_rate_samples` answers per sample, the same ones for the same policy whichever round
    asks; no teacher is asked. A sample that the student could not be asked about is left out. Raises ModelUnavailable
    when that are more than half.
    """
    settings = config.supply
    drawn = await draw_answers(
        samples,
        student,
        mapper,
        k=settings.pass_rate_samples,
        max_tokens=config.answer.max_tokens,
        seed=child_seed(config.seed, "screen", policy_version),
        workers=(settings.workers.min, settings.workers.max),
        concurrency=config.answer.concurrency,
    )
    if 2 * len(drawn) < len({sample.id for sample in samples}):
        raise ModelUnavailable(f"support: the student answered {len(drawn)} of {len(samples)} samples; resume the run")
    rated = [_rated(sample, drawn[sample.id], policy_version) for sample in samples if sample.id in drawn]
    return tuple(sample for sample in rated if _in_band(sample, settings.pass_rate))


def _rated(sample: Sample, draws: Draws, policy_version: int) -> Sample:
    hits = draws.hits
    return replace(sample, difficulty=Difficulty(sum(hits) / len(hits), len(hits), policy_version))


def _in_band(sample: Sample, band: tuple[float, float]) -> bool:
    assert sample.difficulty
    return check_pass_rate(sample.difficulty.pass_rate, band, len(sample.options)) is None
