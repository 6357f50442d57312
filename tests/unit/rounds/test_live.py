"""A long stage says where it stands, cell by cell, and which calls hang."""

import asyncio
import json

from dpe_ray.errors import ClusterError
from dpe_ray.rounds.live import QuotaLines, StallLines, StepLines, repeating
from dpe_ray.supply.quota_book import Quotas


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


async def spend(book, cell, slot, *, passed, calls):
    assert cell in await book.begin(slot)
    assert await book.reserve(cell, slot)
    await (book.commit(slot, f"sample {slot}", calls) if passed else book.release(slot, calls))


async def test_every_open_cell_has_a_line_with_its_rate_and_the_time_it_takes():
    told, clock = [], Clock()
    lines = QuotaLines("round 1  supply     ", told.append, clock)
    await lines.tell()
    assert told == [], "no supplier keeps a book yet"
    book = lines.watch("annotate", Quotas({"chart/read": 4, "map/find": 1}, 4, 100))
    await spend(book, "chart/read", 0, passed=True, calls=5)
    await spend(book, "chart/read", 1, passed=False, calls=2)
    await spend(book, "map/find", 2, passed=True, calls=4)
    await book.begin(3)
    await book.reserve("chart/read", 3)
    clock.now += 30
    await lines.tell()
    assert told == [
        "round 1  supply        30.0 s  annotate: 2 of 5 accepted, 1 rejected, 1 in flight, 11 calls, 4.0 a minute, "
        "1 min left",
        "         chart/read: 1 of 4 accepted, 1 rejected, 1 in flight, 7 calls, 2.0 a minute, 2 min left",
    ]


async def test_a_rate_is_that_of_the_last_minutes():
    told, clock = [], Clock()
    lines = QuotaLines("supply", told.append, clock)
    book = lines.watch("annotate", Quotas({"chart/read": 3}, 4, 100))
    await spend(book, "chart/read", 0, passed=True, calls=1)
    for _ in range(2):
        clock.now += 60
        await lines.tell()
    assert "1.0 a minute, 2 min left" in told[1]
    assert "0.0 a minute, no end in sight" in told[3]


async def test_the_next_supplier_is_told_of_from_its_own_beginning():
    told, clock = [], Clock()
    lines = QuotaLines("supply", told.append, clock)
    first = lines.watch("construct", Quotas({"chart/read": 2}, 4, 100))
    await spend(first, "chart/read", 0, passed=True, calls=1)
    lines.watch("annotate", Quotas({"chart/read": 1}, 4, 100))
    clock.now += 60
    await lines.tell()
    assert told[0].endswith(
        "annotate: 0 of 1 accepted, 0 rejected, 0 in flight, 0 calls, 0.0 a minute, no end in sight"
    )


async def test_whole_lines_of_stalls_are_told_once(tmp_path):
    told, path = [], tmp_path / "stalls.log"
    path.write_text("of an earlier run\n")
    stalls = StallLines(path, told.append)
    await stalls.tell()
    with path.open("a") as file:
        file.write("models.teacher: hangs\nmodels.jud")
    await stalls.tell()
    with path.open("a") as file:
        file.write("ge: hangs\n")
    await stalls.tell()
    await stalls.tell()
    assert told == ["stalled  models.teacher: hangs", "stalled  models.judge: hangs"]


async def test_the_last_step_of_a_training_is_told_when_one_came(tmp_path):
    told, clock, path = [], Clock(), tmp_path / "metrics.jsonl"
    step = {"step": 1, "steps_left": 79.0, "reward": 0.5, "loss": 0.1, "step_time_s": 1.5}
    path.write_text(json.dumps(step) + "\n")
    steps = StepLines("round 1  training   ", path, told.append, clock)
    await steps.tell()
    assert told == [], "that one was an earlier run's"
    with path.open("a") as file:
        for n in (2, 3):
            file.write(json.dumps(step | {"step": n, "steps_left": 80.0 - n}) + "\n")
        file.write('{"step": 4')
    clock.now += 30
    await steps.tell()
    await steps.tell()
    line = "step 3, 77 to go, reward 0.50, 1.5 s a step, 2 min left"
    assert told == [f"round 1  training      30.0 s  {line}"]
    with path.open("a") as file:
        file.write("}\n")
        file.write(json.dumps({"step": 5, "steps_left": 0.0, "loss": 0.25, "step_time_s": 0.1}) + "\n")
    await steps.tell()
    assert told[1].endswith("step 5, 0 to go, loss 0.25, 0.1 s a step, 0 min left")


async def test_a_file_that_is_written_anew_is_read_from_its_beginning(tmp_path):
    told, path = [], tmp_path / "metrics.jsonl"
    steps = StepLines("training", path, told.append, Clock())
    line = json.dumps({"step": 2, "loss": 0.25, "step_time_s": 0.1}) + "\n"
    path.write_text(line)
    await steps.tell()
    part = tmp_path / "part"
    part.write_text(line.replace("0.25", "0.123456789"))
    part.replace(path)
    await steps.tell()
    assert [words.partition("s  ")[2] for words in told] == [
        "step 2, loss 0.25, 0.1 s a step",
        "step 2, loss 0.12, 0.1 s a step",
    ], "runs of earlier versions do not count steps down"


async def test_rewards_and_trackers_that_fail_are_told(tmp_path):
    told, path = [], tmp_path / "metrics.jsonl"
    steps = StepLines("training", path, told.append, Clock())
    step = {"step": 1, "steps_left": 1.0, "reward": 0.5, "reward_errors": 3.0, "step_time_s": 1.0}
    path.write_text(json.dumps(step) + "\n")
    (tmp_path / "failures.log").write_text("wandb cannot be opened (UsageError: no API key)\n")
    await steps.tell()
    steps.tell_failures()
    assert told[0] == "tracking  wandb cannot be opened (UsageError: no API key)"
    assert "reward 0.50, 3 of the last rewards failed, 1.0 s a step" in told[1]
    assert len(told) == 2


async def test_telling_goes_on_while_the_block_runs_and_ends_with_it():
    times = []

    async def tell():
        times.append(1)

    async with repeating(tell, 0.01):
        await asyncio.sleep(0.2)
    seen = len(times)
    assert seen >= 3
    await asyncio.sleep(0.05)
    assert len(times) == seen


async def test_what_breaks_the_telling_does_not_break_the_stage():
    asked = []

    async def tell():
        asked.append(1)
        raise ClusterError("the book is lost")

    async with repeating(tell, 0.01):
        await asyncio.sleep(0.1)
    assert asked == [1]
