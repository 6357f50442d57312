"""One round: diagnose, plan, supply, train, evaluate, decide. Whoever reads this knows the system."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dpe_ray.config import RunConfig
from dpe_ray.evaluate.compare import compare
from dpe_ray.plan.stage import make_plan
from dpe_ray.plan.teachable import teachable
from dpe_ray.rounds.record import RoundRecord, close_record
from dpe_ray.rounds.results import RoundResults
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import DataPlan, Diagnosis, Graded, PolicyRef, Sample, TrainResult


@dataclass(frozen=True)
class RoundStages:
    """The heavy stages, bound to a machine by `rounds.stages`."""

    diagnose: Callable[[PolicyRef, int], Awaitable[tuple[Diagnosis, tuple[Graded, ...]]]]
    """(policy, round) -> the diagnosis and the graded probe."""
    supply: Callable[[PolicyRef, DataPlan, int], Awaitable[Supplied]]
    """(policy, plan, round) -> accepted samples and rejections."""
    finetune: Callable[[PolicyRef, Sequence[Sample], DataPlan, int], Awaitable[TrainResult]]
    """(policy, samples, plan, round) -> the candidate policy; the plan says how much is replayed."""
    measure: Callable[[PolicyRef, str, int], Awaitable[tuple[Graded, ...]]]
    """(policy, `gate` or `final`, round) -> every item of those suites, graded; a policy is asked once."""


async def run_round(
    index: int, policy: PolicyRef, stages: RoundStages, results: RoundResults, config: RunConfig
) -> RoundRecord:
    """Go once round. A stage that finished before is loaded, not run again; a stage's own error passes through."""
    step = results.step

    # 2  Where does the policy fail?
    diagnosis, _ = await step(results.diagnosis, lambda: stages.diagnose(policy, index))
    # 3  What should be added, and how much of it?
    taught = teachable(config.train)
    plan = await step(results.plan, lambda: make_plan(diagnosis, config.plan, results.band_yields(), taught))
    # 4  Annotate until the quotas are full.
    supplied = await step(results.supply, lambda: stages.supply(policy, plan, index))
    if not supplied.samples:
        return results.close(close_record(index, policy, plan, supplied))
    # 5  Fine-tune on what passed the gates.
    trained = await step(results.training, lambda: stages.finetune(policy, supplied.samples, plan, index))
    # 6  Did it help, did it hurt? Both policies on the same held-out items.
    before = await step(results.before, lambda: stages.measure(policy, "gate", index))
    after = await step(results.after, lambda: stages.measure(trained.policy, "gate", index))
    comparison = await step(results.comparison, lambda: compare(before, after, config.decision))
    # 7  Keep the better policy and write down why.
    return results.close(close_record(index, policy, plan, supplied, trained, comparison))
