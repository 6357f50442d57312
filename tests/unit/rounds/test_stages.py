"""An outage is neither a measurement nor an empty round: nothing of it is saved, so a resumed run asks again."""

import pytest
from builders import make_sample

from dpe_ray.errors import ModelUnavailable
from dpe_ray.rounds.record import stopped_record
from dpe_ray.rounds.results import earlier_answers
from dpe_ray.rounds.stages import _require_answers
from dpe_ray.rounds.store import RunFolder
from dpe_ray.types import Graded, PolicyRef, Verdict, VerdictKind


def graded(judged, silent):
    down = Verdict(VerdictKind.NOT_JUDGED, "answer@1", "endpoint is down")
    right = Verdict(VerdictKind.CORRECT, "text@1")
    return [Graded(make_sample(f"q{i}"), "", right if i < judged else down) for i in range(judged + silent)]


def test_a_suite_that_was_hardly_judged_is_no_measurement():
    with pytest.raises(ModelUnavailable, match=r"gate suite: 2 of 8 items were judged \(endpoint is down\)"):
        _require_answers(graded(2, 6), "gate")
    assert _require_answers(graded(6, 2), "gate") is None


def keep(folder, name, answers):
    folder.save_verdicts(name, answers)
    (folder.path / "stages.json").write_text('{"before": 1.0, "after": 1.0, "base": 1.0}')


def test_a_policy_that_an_earlier_round_measured_is_not_asked_again(tmp_path):
    run, old, new = RunFolder(tmp_path), graded(2, 1), graded(3, 0)
    keep(run.round(1), "before", old)
    keep(run.round(1), "after", new)
    run.round(1).save_json("record", stopped_record(1, PolicyRef("base"), "rolled back"))
    samples = {g.sample.id: g.sample for g in old}
    assert earlier_answers(run, 0, "gate", 2, samples) == tuple(old)
    assert earlier_answers(run, 1, "gate", 2, samples) == tuple(new)
    assert earlier_answers(run, 2, "gate", 2, samples) == ()
    assert earlier_answers(run, 0, "gate", 1, samples) == ()
    assert earlier_answers(run, 0, "final", 0, samples) == ()


def test_a_kept_base_is_measured_once_on_the_final_suites(tmp_path):
    run, answers = RunFolder(tmp_path), graded(2, 1)
    keep(run.final(), "base", answers)
    samples = {g.sample.id: g.sample for g in answers}
    assert earlier_answers(run, 0, "final", 0, samples) == tuple(answers)
    assert earlier_answers(run, 1, "final", 0, samples) == ()
