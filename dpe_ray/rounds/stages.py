"""The stages of a round, bound to a machine: which door, which set and which seed each of them gets."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from dpe_ray.config import RunConfig
from dpe_ray.diagnose.probe import select_probe
from dpe_ray.errors import BudgetExceeded, ModelUnavailable
from dpe_ray.grading.answering import answer_all
from dpe_ray.grading.options import spread_answers
from dpe_ray.ports import ChatDoor
from dpe_ray.rounds.diagnosing import diagnose_policy
from dpe_ray.rounds.live import LINES_EVERY_S, Notify, QuotaLines, StepLines, repeating
from dpe_ray.rounds.machine import Machine, grant, spent_limit
from dpe_ray.rounds.results import earlier_answers
from dpe_ray.rounds.round import RoundStages
from dpe_ray.rounds.sets import Sets, round_probe, second_batch
from dpe_ray.rounds.store import RunFolder
from dpe_ray.rounds.supplying import Suppliers
from dpe_ray.seeds import child_seed
from dpe_ray.supply.gates import sample_key
from dpe_ray.supply.stage import supply
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import DataPlan, Diagnosis, Graded, PolicyRef, Sample, TrainResult


def make_stages(
    config: RunConfig, run: RunFolder, sets: Sets, machine: Machine, notify: Notify = lambda line: None
) -> RoundStages:
    """Bind every stage to its doors, sets and seeds; `notify` hears how supply gets on."""
    bound = _Bound(config, run, sets, machine, notify)
    return RoundStages(bound.diagnose, bound.supply, bound.finetune, bound.measure)


class _Bound:
    def __init__(self, config: RunConfig, run: RunFolder, sets: Sets, machine: Machine, notify: Notify) -> None:
        self._config, self._run, self._sets, self._machine, self._notify = config, run, sets, machine, notify
        self._workers = (config.supply.workers.min, config.supply.workers.max)
        self._suppliers = Suppliers(config, run, sets, machine)

    async def diagnose(self, policy: PolicyRef, index: int) -> tuple[Diagnosis, tuple[Graded, ...]]:
        """Draw this round's probe and find where the policy fails on it."""
        config, stage = self._config, f"{index:02d}-diagnosis"
        if limit := spent_limit(self._run, config, stage):
            raise BudgetExceeded(limit)
        await grant(self._machine.calls, self._run, config, stage)
        await self._machine.publish(policy)
        return await diagnose_policy(
            policy.version,
            round_probe(config, self._sets, index),
            lambda role: self._door(role, stage, policy),
            self._machine.mapper,
            config,
            zoomed=self._run.path / "zoomed",
            seed=child_seed(config.seed, "diagnosis", index),
            embedder=self._machine.embedder(named) if (named := config.diagnose.embedder) else None,
            more=partial(second_batch, config, self._sets, index) if config.probe.second else None,
        )

    async def supply(self, policy: PolicyRef, plan: DataPlan, index: int) -> Supplied:
        """Fill the plan's quotas by the suppliers of `supply.order`, one after the other."""
        await self._machine.publish(policy)
        lines = QuotaLines(f"round {index}  supply     ", self._notify)
        order = [self._suppliers.make(name, policy, plan, index, lines) for name in self._config.supply.order]
        earlier = [sample_key(sample) for i in range(1, index) for sample in self._run.round(i).load_samples()]
        async with repeating(lines.tell, LINES_EVERY_S):
            supplied = await supply(plan, order, set(earlier))
        self._suppliers.close(supplied, index)
        return supplied

    async def finetune(self, policy: PolicyRef, samples: Sequence[Sample], plan: DataPlan, index: int) -> TrainResult:
        """Train on the accepted samples and, against forgetting, on labelled ones of the support set."""
        seed = child_seed(self._config.seed, "train", index)
        taken = {sample.id for sample in samples}
        left = [sample for sample in self._sets.support if sample.id not in taken]
        replay = select_probe(left, plan.replay, seed) if plan.replay else ()
        folder = self._run.round(index)
        lessons = spread_answers([*samples, *replay])
        lines = StepLines(f"round {index}  training   ", folder.steps, self._notify)
        async with repeating(lines.tell, LINES_EVERY_S):
            trained = await self._machine.updater.finetune(policy, lessons, out=str(folder.path / "policy"), seed=seed)
        lines.tell_failures()
        # the round's own number: after a rollback another candidate must not pass for the one that was rolled back
        return replace(trained, policy=replace(trained.policy, version=index))

    async def measure(self, policy: PolicyRef, suite: str, index: int) -> tuple[Graded, ...]:
        """Answer `gate` in round `index`, or `final`, greedily; a policy is asked once, later its answers are loaded.

        The budget does not hold here: what was paid for is measured, and a half-judged suite would compare nothing.
        """
        samples = self._sets.suites()[suite]
        if known := earlier_answers(self._run, policy.version, suite, index, samples):
            return known
        stage = suite if suite == "final" else f"{index:02d}-{suite}"
        await self._machine.calls.allow(None)
        await self._machine.publish(policy)
        graded = await answer_all(
            tuple(samples.values()),
            self._door("student", stage, policy),
            self._door("judge", stage, policy),
            self._machine.mapper,
            max_tokens=self._config.answer.max_tokens,
            workers=self._workers,
            concurrency=self._config.answer.concurrency,
            judge_file=self._config.prompts.get("judge", ""),
        )
        _require_answers(graded, suite)
        return graded

    def _door(self, role: str, stage: str, policy: PolicyRef) -> ChatDoor:
        return self._machine.door(role, stage, policy.version)


def _require_answers(graded: Sequence[Graded], suite: str) -> None:
    """An outage must not be kept as a measurement: below a half, nothing is saved, and a resumed run asks again."""
    judged = [g for g in graded if g.verdict.judged]
    if 2 * len(judged) < len(graded):
        reason = next(g.verdict.reason for g in graded if not g.verdict.judged)
        raise ModelUnavailable(f"{suite} suite: {len(judged)} of {len(graded)} items were judged ({reason})")
