"""The stages of a round, bound to a machine: which door, which set and which seed each of them gets."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dpe_ray.config import RunConfig
from dpe_ray.diagnose.probe import select_probe
from dpe_ray.diagnose.stage import diagnose
from dpe_ray.errors import BudgetExceeded, ModelUnavailable
from dpe_ray.grading.answering import answer_all
from dpe_ray.grading.options import spread_answers
from dpe_ray.ports import CallBudget, ChatDoor, PolicyUpdater, QuotaBook, RowMapper
from dpe_ray.rounds.ledger import cost, read_calls
from dpe_ray.rounds.results import earlier_answers
from dpe_ray.rounds.round import RoundStages
from dpe_ray.rounds.sets import Sets
from dpe_ray.rounds.store import RunFolder
from dpe_ray.seeds import child_seed
from dpe_ray.supply.annotate.slot import ROLES as SLOT_ROLES
from dpe_ray.supply.annotate.slot import SlotConfig
from dpe_ray.supply.annotate.supplier import AnnotateSupplier
from dpe_ray.supply.gates import sample_key
from dpe_ray.supply.stage import supply
from dpe_ray.supply.supplier import Supplied, Supplier
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.types import DataPlan, Diagnosis, Graded, PolicyRef, Sample, TrainResult


@dataclass(frozen=True)
class Machine:
    """What the stages ask for, as one place offers it."""

    mapper: RowMapper
    door: Callable[[str, str, int], ChatDoor]
    """(role, journal stage, policy version) -> door; the role `student` is the policy that is trained."""
    book: Callable[[dict[str, int], float, int], QuotaBook]
    """(quotas, slots per sample, teacher calls) -> a new book."""
    calls: CallBudget
    """What the doors of the teacher's roles keep to."""
    updater: PolicyUpdater
    publish: Callable[[PolicyRef], Awaitable[None]]
    """Serve this policy from now on."""


def make_stages(config: RunConfig, run: RunFolder, sets: Sets, machine: Machine) -> RoundStages:
    """Bind every stage to its doors, sets and seeds."""
    bound = _Bound(config, run, sets, machine)
    return RoundStages(bound.diagnose, bound.supply, bound.finetune, bound.measure)


class _Bound:
    def __init__(self, config: RunConfig, run: RunFolder, sets: Sets, machine: Machine) -> None:
        self._config, self._run, self._sets, self._machine = config, run, sets, machine
        self._workers = (config.supply.workers.min, config.supply.workers.max)

    async def diagnose(self, policy: PolicyRef, index: int) -> tuple[Diagnosis, tuple[Graded, ...]]:
        """Draw this round's probe and find where the policy fails on it."""
        config, stage = self._config, f"{index:02d}-diagnosis"
        if await self._grant(stage) <= 0:
            raise BudgetExceeded(f"budget.teacher_calls: all {config.budget.teacher_calls} calls are spent")
        await self._machine.publish(policy)
        return await diagnose(
            policy.version,
            select_probe(self._sets.probe, config.probe.size, child_seed(config.seed, "probe", index)),
            self._door("student", stage, policy),
            self._door("judge", stage, policy),
            self._door("skill_analyst", stage, policy),
            self._machine.mapper,
            taxonomy=load_taxonomy(config.taxonomy),
            max_tokens=config.answer.max_tokens,
            failures_per_cell=config.diagnose.failures_per_cell,
            workers=self._workers,
            concurrency=config.supply.concurrency,
            prompts=config.prompts,
        )

    async def supply(self, policy: PolicyRef, plan: DataPlan, index: int) -> Supplied:
        """Fill the plan's quotas by the suppliers of `supply.order`, one after the other."""
        await self._machine.publish(policy)
        suppliers = {"annotate": self._annotate}
        earlier = [sample_key(sample) for i in range(1, index) for sample in self._run.round(i).load_samples()]
        order = [suppliers[name](policy, plan, index) for name in self._config.supply.order]
        supplied = await supply(plan, order, set(earlier))
        _require_teacher(supplied)
        return supplied

    def _annotate(self, policy: PolicyRef, plan: DataPlan, index: int) -> Supplier:
        """Annotate pool images; every round goes on in the pool where the last one stopped."""
        config, settings, stage = self._config, self._config.supply, f"{index:02d}-supply"
        slots = round(plan.total * settings.slots_per_sample)

        async def book(wanted: Mapping[str, int]) -> QuotaBook:
            return self._machine.book(dict(wanted), settings.slots_per_sample, await self._grant(stage))

        return AnnotateSupplier(
            self._sets.pool.draw(slots, seed=child_seed(config.seed, "pool"), cursor=(index - 1) * slots),
            slots,
            SlotConfig(
                doors={role: self._door(role, stage, policy) for role in SLOT_ROLES},
                contamination=self._sets.held_out,
                round=index,
                policy_version=policy.version,
                seed=child_seed(config.seed, "supply", index),
                attempts=settings.attempts,
                solves=settings.solves,
                pass_rate=settings.pass_rate,
                pass_rate_samples=settings.pass_rate_samples,
                answer_tokens=config.answer.max_tokens,
                prompts=config.prompts,
            ),
            book,
            self._machine.mapper,
            self._workers,
            settings.concurrency,
            settings.workers.labels,
        )

    async def finetune(self, policy: PolicyRef, samples: Sequence[Sample], plan: DataPlan, index: int) -> TrainResult:
        """Train on the accepted samples and, against forgetting, on labelled ones of the support set."""
        seed = child_seed(self._config.seed, "train", index)
        replay = select_probe(self._sets.support, plan.replay, seed) if plan.replay else ()
        out = str(self._run.round(index).path / "policy")
        lessons = spread_answers([*samples, *replay])
        trained = await self._machine.updater.finetune(policy, lessons, out=out, seed=seed)
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
            concurrency=self._config.supply.concurrency,
            judge_file=self._config.prompts.get("judge", ""),
        )
        _require_answers(graded, suite)
        return graded

    def _door(self, role: str, stage: str, policy: PolicyRef) -> ChatDoor:
        return self._machine.door(role, stage, policy.version)

    async def _grant(self, stage: str) -> int:
        """Bound the teacher's calls by what the run has left; returns what the other stages leave to this one.

        The two differ by what this stage paid before it was interrupted: that is in its journal and costs nothing now.
        """
        allowed = self._config.budget.teacher_calls
        calls = read_calls(self._run.path / "journal")
        used, here = cost(calls, {}).teacher_calls, cost(calls, {}, stage).teacher_calls
        await self._machine.calls.allow(max(0, allowed - used))
        return allowed - (used - here)


def _require_answers(graded: Sequence[Graded], suite: str) -> None:
    """An outage must not be kept as a measurement: below a half, nothing is saved, and a resumed run asks again."""
    judged = [g for g in graded if g.verdict.judged]
    if 2 * len(judged) < len(graded):
        reason = next(g.verdict.reason for g in graded if not g.verdict.judged)
        raise ModelUnavailable(f"{suite} suite: {len(judged)} of {len(graded)} items were judged ({reason})")


def _require_teacher(supplied: Supplied) -> None:
    """A teacher that is down ends the run with its own words instead of a round without samples."""
    outages = [r for r in supplied.rejections if r.gate == "outage"]
    if not supplied.samples and 2 * len(outages) > len(supplied.rejections):
        raise ModelUnavailable(f"supply: {len(outages)} of {supplied.proposed} slots: {outages[0].reason}")
