import json
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from dpe_ray.diagnose.mistakes.problem import problem_of
from dpe_ray.diagnose.mistakes.steps import split_steps
from dpe_ray.micro.world.fine_steps import FINE_CUE
from dpe_ray.pool.images import ImageStore

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fine_student
    import locate
    import slips

    return SimpleNamespace(student=fine_student, slips=slips, locate=locate)


@pytest.fixture
def asked(bench: SimpleNamespace, tmp_path: Path) -> list:
    return list(bench.student.tasks("items of a test", 60, ImageStore(tmp_path), split="heldout"))


def perfect(task) -> str:
    return task.right.completion(task.prompt.sample.answer.value)


def rationales(bench: SimpleNamespace, asked: list) -> list:
    return [(task, bench.slips.usable(task, perfect(task))) for task in asked]


def test_items_ask_for_fine_steps_on_pictures_that_are_all_different_and_not_taken(bench, asked, tmp_path):
    pictures = {task.prompt.sample.images[0].sha256 for task in asked}
    assert len(pictures) == len(asked)
    assert all(task.prompt.text.endswith(f"\n{FINE_CUE}") for task in asked)
    again = bench.student.tasks("items of a test", 60, ImageStore(tmp_path), split="heldout", taken=pictures)
    assert pictures.isdisjoint(task.prompt.sample.images[0].sha256 for task in again)


def test_a_lesson_is_what_the_trainer_would_have_the_student_write(asked):
    from dpe_ray.train.targets import completion_text

    assert [completion_text(task.prompt.sample) for task in asked] == [perfect(task) for task in asked]


def test_a_student_is_tuned_once_per_folder_and_is_an_adapter_on_the_shipped_one(bench, tmp_path):
    made = bench.student.make_student(tmp_path, 3, lessons=4)
    assert (made["lessons"], made["updates"]) == (4, 1)
    assert bench.student.make_student(tmp_path, 3, lessons=400) == made
    policy = bench.student.policy_of(tmp_path, 3)
    assert Path(policy.adapter, "adapter_model.safetensors").exists()
    learned = {file.name for file in (tmp_path / "lessons").iterdir()}
    fresh = bench.student.fresh_tasks(tmp_path, 3, 5)
    assert learned.isdisjoint(task.prompt.sample.images[0].sha256 for task in fresh)


def test_writing_counts_what_is_valid_true_and_right(bench, asked):
    good = bench.student.writing(asked, [perfect(task) for task in asked])["all"]
    assert (good["valid"], good["true_steps"], good["right"]) == (1, 1, 1)
    (task,) = [task for task in asked if task.skill == "bar_difference"][:1]
    *steps, last = task.right.steps
    slipped = bench.student.writing([task], [perfect(task).replace(last, "makes 19")])["all"]
    assert slipped["valid"] == 0
    assert slipped["true_steps"] == pytest.approx(len(steps) / (len(steps) + 1))
    assert slipped["right"] == 1
    assert bench.student.writing([task], ["answer: 3"])["all"]["valid"] == 0


@pytest.mark.parametrize("are_facts", [False, True])
def test_what_was_written_before_the_slip_stays_and_the_end_is_a_wrong_answer(bench, asked, are_facts):
    written = rationales(bench, asked)
    told = {task.prompt.sample.images[0].sha256: told for task, told in written}
    cases = bench.slips.corrupted(written, 0, are_facts=are_facts)
    assert len(cases) > 40
    for case in cases:
        right = told[case.graded.sample.images[0].sha256]
        steps = tuple(step.text for step in split_steps(case.graded.text))
        assert steps[: case.step - 1] == right.steps[: case.step - 1]
        assert steps[case.step - 1] != right.steps[case.step - 1]
        assert (case.step <= 1 + right.num_facts) == are_facts
        assert tuple(step.text for step in split_steps(case.unchanged.text)) == right.steps
        for graded in (case.graded, case.unchanged):
            problem = problem_of(graded)
            assert problem.options[problem.gold] == right.value
            assert graded.text.endswith(f"answer: {problem.options[problem.wrong]}")
    assert {len(case.graded.sample.options) for case in cases} == {0, 4}


def test_the_slip_is_drawn_evenly_over_the_steps_that_can_be_wrong(bench, asked):
    (pair,) = [pair for pair in rationales(bench, asked) if pair[0].skill == "two_steps"][:1]
    possible = bench.slips.possible_slips(*pair, Random(0), are_facts=False)
    drawn = [bench.slips.corrupted([pair], seed, are_facts=False)[0].step for seed in range(300)]
    assert set(drawn) == set(possible)
    assert min(map(drawn.count, possible)) > 300 / len(possible) / 2


def test_a_rationale_that_is_wrong_or_short_gets_no_slip(bench, asked):
    task = asked[0]
    assert bench.slips.usable(task, "1. it is 3\nanswer: 3") is None
    wrong = bench.slips.corrupted(rationales(bench, asked[:1]), 0, are_facts=False)[0]
    assert bench.slips.usable(task, wrong.graded.text) is None


def test_the_mistake_in_a_wrong_answer_is_the_first_step_that_is_not_true(bench, asked):
    assert bench.slips.own_mistakes(asked, [perfect(task) for task in asked]) == []
    case = bench.slips.corrupted(rationales(bench, asked[:1]), 0, are_facts=False)[0]
    (own,) = bench.slips.own_mistakes(asked[:1], [case.graded.text])
    assert (own.step, own.num_steps) == (case.step, case.num_steps)


def body(content, **fields) -> bytes:
    return json.dumps({"model": "t", "messages": [{"role": "user", "content": content}], **fields}).encode()


def test_a_request_that_tells_more_than_text_is_noticed(bench):
    tells_more = bench.locate.tells_more
    assert not tells_more(body("Question: Which?", top_logprobs=20), {"abc123"})
    assert tells_more(body([{"type": "image_url", "image_url": {"url": "data:"}}]), set())
    assert tells_more(body("Question: Which?", user="abc"), set())
    assert tells_more(body("Question: Which? (abc123)"), {"abc123"})


def test_rows_count_hits_by_group_beside_chance(bench: SimpleNamespace, asked):
    cases = bench.slips.corrupted(rationales(bench, asked), 0, are_facts=False)
    found = [case.step if case.num_steps != 7 else 1 for case in cases]
    table = bench.locate.rows(cases, found, [1 / case.num_steps for case in cases], bench.locate.GROUPS["steps"])
    assert table[" 7"]["exact"] == 0
    assert table[" 9"]["exact"] == 1
    assert table[" 9"]["ratio"] == pytest.approx(9)
    assert sum(row["n"] for row in table.values()) == len(cases)
