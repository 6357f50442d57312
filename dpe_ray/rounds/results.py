"""The results of one round, typed: how each stage's product is kept in the round's folder and loaded again."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from dpe_ray.models.price import Price
from dpe_ray.rounds.ledger import read_calls, round_cost, write_ledger
from dpe_ray.rounds.live import Notify, last_step
from dpe_ray.rounds.record import RoundRecord
from dpe_ray.rounds.store import RunFolder, Stage, StageFolder
from dpe_ray.supply.supplier import Supplied
from dpe_ray.types import Comparison, DataPlan, Diagnosis, Graded, Sample, TrainResult

T = TypeVar("T")


class RoundResults:
    """The stages of round `index` as `Stage` values over RUN/rounds/NN, and the record that closes it."""

    def __init__(
        self, run: RunFolder, index: int, gate: Mapping[str, Sample], prices: Mapping[str, Price], notify: Notify
    ) -> None:
        self._run, self._index, self._prices, self._notify = run, index, prices, notify
        self.folder = folder = run.round(index)
        self.plan = json_stage(folder, "plan", DataPlan)
        self.training = json_stage(folder, "training", TrainResult)
        self.comparison = json_stage(folder, "comparison", Comparison)
        self.diagnosis = Stage("diagnosis", self._save_diagnosis, self._load_diagnosis)
        self.supply = Stage("supply", self._save_supplied, self._load_supplied)
        self.before = verdict_stage(folder, "before", gate)
        self.after = verdict_stage(folder, "after", gate)

    async def step(self, stage: Stage[T], produce: Callable[[], Awaitable[T] | T]) -> T:
        """Run or load one stage, bring the ledger up to date, and say a line about it."""
        done = stage.name in self.folder.seconds()
        result = await self.folder.step(stage, produce)
        if not done:
            write_ledger(self._run.path)
        seconds = self.folder.seconds()[stage.name]
        self._notify(_line(self._index, stage.name, "loaded" if done else f"{seconds:6.1f} s", told(result)))
        return result

    def lines(self) -> Iterator[str]:
        """What the run said of every stage that is done, and of a training that is not its last step."""
        seconds = self.folder.seconds()
        known: dict[str, Stage[Any]] = {
            stage.name: stage for stage in (self.diagnosis, self.plan, self.supply, self.training, self.comparison)
        }
        for name, took in seconds.items():
            words = told(known[name].load()) if name in known else ""
            yield _line(self._index, name, f"{took:6.1f} s", words)
        if "supply" in seconds and "training" not in seconds and (step := last_step(self.folder.steps)):
            yield _line(self._index, "training", "", step)

    def close(self, record: RoundRecord) -> RoundRecord:
        """Add seconds and cost, write record.json."""
        calls = read_calls(self._run.path / "journal")
        earlier = [self._run.round(i).load_json("record", RoundRecord).cost for i in range(1, self._index)]
        spent = round_cost(calls, self._prices, earlier)
        record = replace(record, seconds=self.folder.seconds(), cost=spent)
        self.folder.save_json("record", record)
        return record

    def band_yields(self) -> dict[str, float]:
        """Share of each cell's candidates of earlier rounds that lay in the pass-rate band, 0-1, where any were asked.

        Whoever reads it knows that an earlier policy answered: what has been learned since lies in the band less often.
        """
        passed: Counter[str] = Counter()
        missed: Counter[str] = Counter()
        for folder in map(self._run.round, range(1, self._index)):
            if folder.has("supply"):  # what is retrieved was never asked, or only what lies in the band was
                made = (s for s in folder.load_samples() if s.provenance.source != "retrieved")
                passed.update(sample.provenance.cell for sample in made)
                missed.update(r.cell for r in folder.load_rejected() if r.gate == "pass_rate")
        return {cell: passed[cell] / (passed[cell] + missed[cell]) for cell in sorted(passed.keys() | missed.keys())}

    def _save_diagnosis(self, made: tuple[Diagnosis, tuple[Graded, ...]]) -> None:
        self.folder.save_verdicts("probe", made[1])
        self.folder.save_json("diagnosis", made[0])

    def _load_diagnosis(self) -> tuple[Diagnosis, tuple[Graded, ...]]:
        return self.folder.load_json("diagnosis", Diagnosis), ()

    def _save_supplied(self, supplied: Supplied) -> None:
        self.folder.save_rejected(supplied.rejections)
        self.folder.save_samples(supplied.samples)
        self.folder.save_json("supply", replace(supplied, samples=(), rejections=()))

    def _load_supplied(self) -> Supplied:
        counts = self.folder.load_json("supply", Supplied)
        return replace(counts, samples=self.folder.load_samples(), rejections=self.folder.load_rejected())


def _line(index: int, stage: str, took: str, words: str) -> str:
    return f"round {index}  {stage:<11}{took:8}  {words}".rstrip()


def json_stage(folder: StageFolder, name: str, kind: type[T]) -> Stage[T]:
    """A stage whose product is one dataclass in NAME.json."""
    return Stage(name, lambda value: folder.save_json(name, value), lambda: folder.load_json(name, kind))


def verdict_stage(folder: StageFolder, name: str, samples: Mapping[str, Sample]) -> Stage[tuple[Graded, ...]]:
    """A stage whose product is one set of verdicts.parquet."""
    return Stage(name, lambda graded: folder.save_verdicts(name, graded), lambda: folder.load_verdicts(name, samples))


def earlier_answers(
    run: RunFolder, version: int, suite: str, index: int, samples: Mapping[str, Sample]
) -> tuple[Graded, ...]:
    """What this policy answered on `gate` in a round before `index`, or as the base on `final`; empty when nothing."""
    places = [(run.final(), "base")] if suite == "final" and version == 0 else []
    if suite == "gate":
        places = [(run.round(i), name) for i in range(1, index) for name in _measured(run.round(i), i, version)]
    return next((f.load_verdicts(name, samples) for f, name in places if name in f.seconds()), ())


def _measured(folder: StageFolder, index: int, version: int) -> list[str]:
    """The sets of verdicts in which a closed round measured this policy: its start `before`, its candidate `after`."""
    start = folder.load_json("record", RoundRecord).start.version
    return [name for name, measured in (("before", start), ("after", index)) if measured == version]


ENDS = {
    "exhausted": "their cells gave up after `supply.slots_per_sample` slots a sample",
    "slots": "`supply.slots_per_sample` allows no more slots",
    "pool": "the pool has no more images",
    "budget": "the budget is spent",
}
"""What `Supplied.closed_by` means for what is missing."""
TOP = 3


def _supply_told(result: Supplied) -> str:
    made = f"{len(result.samples)} accepted of {result.proposed} proposed"
    gates = Counter(rejection.gate for rejection in result.rejections).most_common(TOP)
    refused = f", most refused by {', '.join(f'{gate} ({n})' for gate, n in gates)}" if gates else ""
    missing = sum(result.shortfall.values())
    return made + refused + (f"; {missing} missing: {ENDS.get(result.closed_by, result.closed_by)}" if missing else "")


def _training_told(result: TrainResult) -> str:
    name = "reward" if any("reward" in metrics for metrics in result.metrics) else "loss"
    values = [metrics[name] for metrics in result.metrics if name in metrics]
    parts = [f"{result.steps} steps, {name} {values[0]:.2f} -> {values[-1]:.2f}"]
    if failed := sum(metrics.get("reward_errors", 0) for metrics in result.metrics):
        parts.append(f"{failed:.0f} rewards failed and count 0")
    if all(metrics.get("frac_reward_zero_std", 0) == 1 for metrics in result.metrics):
        parts.append("nothing was learned: all answers of a prompt had equal rewards, at every step")
    parts += [f"{count} samples left out ({reason})" for reason, count in result.refused.items()]
    return "; ".join(parts)


def told(result: object) -> str:
    """A stage's product in a few words for the progress line."""
    match result:
        case (Diagnosis() as diagnosis, _):
            weakest = sorted(diagnosis.cells, key=lambda c: c.accuracy)[:3]
            found = "weakest " + ", ".join(f"{c.cell} {c.accuracy:.2f}" for c in weakest)
            silent = f"{n} of {diagnosis.probed} items not explained, " if (n := diagnosis.unexplained) else ""
            return f"{diagnosis.probed} probes, {silent}{found}"
        case DataPlan():
            return f"{result.total} samples over {sum(c.quota > 0 for c in result.cells)} cells"
        case Supplied():
            return _supply_told(result)
        case TrainResult():
            return _training_told(result)
        case Comparison():
            # decision and change are told with the round's reasons
            return f"macro {result.before.macro:.3f} -> {result.after.macro:.3f}"
        case tuple():
            judged = [g for g in result if g.verdict.judged]
            return f"{len(judged)} of {len(result)} judged, {sum(g.verdict.correct for g in judged)} correct"
    return ""
