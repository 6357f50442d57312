"""All rounds of a run, from the base policy to the final measurement."""

from collections.abc import Mapping

from dpe_ray.config import RunConfig
from dpe_ray.errors import BudgetExceeded
from dpe_ray.evaluate.score import score
from dpe_ray.rounds.ledger import cost, prices, read_calls, write_ledger
from dpe_ray.rounds.live import Notify
from dpe_ray.rounds.record import Cost, RoundRecord, stopped_record, summary
from dpe_ray.rounds.results import RoundResults, verdict_stage
from dpe_ray.rounds.round import RoundStages, run_round
from dpe_ray.rounds.spending import spending
from dpe_ray.rounds.store import RunFolder
from dpe_ray.types import PolicyRef, Sample, SuiteScore


def is_closed(run: RunFolder, rounds: int, until_round: int = 0) -> bool:
    """Whether a loop over this run would do nothing: it is complete, or pauses behind a round that has its record."""
    if run.has_summary() and run.summary()["status"] == "complete":
        return True
    last = run.round(until_round)
    if not 0 < until_round < rounds or not last.has("record"):
        return False
    return last.load_json("record", RoundRecord).decision != "stop"


class Loop:
    """A run in its directory: closed rounds are loaded, the first open one goes on where it stopped."""

    def __init__(
        self,
        config: RunConfig,
        run: RunFolder,
        stages: RoundStages,
        suites: Mapping[str, Mapping[str, Sample]],
        notify: Notify,
        suite_of: Mapping[str, str] | None = None,
    ) -> None:
        """`suites` holds the samples of `gate` and `final` by id; `suite_of` names the suite of a final sample."""
        self._config, self._run, self._stages, self._suites, self._notify = config, run, stages, suites, notify
        self._suite_of = suite_of
        self._prices = prices(config)
        self._records: list[RoundRecord] = []

    async def run(self, base: PolicyRef, until_round: int = 0) -> PolicyRef:
        """Go round until the rounds, the budget or the samples end, then measure base and kept policy once.

        With `until_round` the loop pauses after that round and leaves the run open. Returns the kept policy.
        """
        policy, rounds = base, self._config.rounds
        for index in range(1, rounds + 1):
            results = RoundResults(self._run, index, self._suites["gate"], self._prices, self._notify)
            if results.folder.has("record"):
                record = results.folder.load_json("record", RoundRecord)
                self._records.append(record)
            elif until_round and index > until_round:
                return policy
            else:
                record = await self._round(index, policy, results)
            policy = record.kept
            if record.decision == "stop":
                break
        await self._measure_final(base, policy)
        return policy

    async def _round(self, index: int, policy: PolicyRef, results: RoundResults) -> RoundRecord:
        self._write("running")
        try:
            record = await run_round(index, policy, self._stages, results, self._config)
        except BudgetExceeded as error:
            record = results.close(stopped_record(index, policy, str(error)))
        self._records.append(record)
        self._write("running")
        more = f" (+{len(record.reasons) - 1} notes in the report)" if len(record.reasons) > 1 else ""
        self._notify(f"round {index}  {record.decision}: {record.reasons[0]}{more}")
        return record

    async def _measure_final(self, base: PolicyRef, kept: PolicyRef) -> None:
        if not self._suites["final"]:
            return self._write("complete")
        before, after = await self._final("base", base), await self._final("final", kept)
        write_ledger(self._run.path)
        spent = cost(read_calls(self._run.path / "journal"), self._prices, "final")
        self._write("complete", before, after, spent)

    async def _final(self, name: str, policy: PolicyRef) -> SuiteScore:
        folder = self._run.final()
        stage = verdict_stage(folder, name, self._suites["final"])
        graded = await folder.step(stage, lambda: self._stages.measure(policy, "final", 0))
        measured = score(graded, self._suite_of)
        self._notify(f"{name:<6}  macro {measured.macro:.3f} on {measured.n} final items")
        return measured

    def _write(
        self,
        status: str,
        base: SuiteScore | None = None,
        final: SuiteScore | None = None,
        final_cost: Cost | None = None,
    ) -> None:
        calls = read_calls(self._run.path / "journal")
        spent, budget = cost(calls, self._prices), spending(self._config, calls)
        self._run.write_summary(summary(status, self._records, base, final, final_cost or Cost(), spent, budget))
