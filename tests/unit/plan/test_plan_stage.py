import pytest
from builders import make_cell
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.config import PlanConfig
from dpe_ray.errors import PoolError
from dpe_ray.plan.instruction import LONGEST, instruction
from dpe_ray.plan.stage import make_plan
from dpe_ray.types import Attribution, CellDiagnosis, Diagnosis, Failure

COUNTS = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda t: (min(t), max(t)))


def diagnosis(*cells: CellDiagnosis) -> Diagnosis:
    return Diagnosis(0, cells, "probe", 100, 0)


@given(
    st.dictionaries(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz")), COUNTS, min_size=1),
    st.integers(1, 600),
    st.sampled_from([0.0, 0.02, 0.1]),
)
def test_quotas_sum_to_the_total_and_no_category_falls_below_the_floor(
    counts: dict[tuple[str, str], tuple[int, int]], total: int, floor: float
) -> None:
    plan = make_plan(diagnosis(*[make_cell(*k, *v) for k, v in counts.items()]), PlanConfig(total=total, floor=floor))
    assert sum(plan.quotas.values()) == total
    assert sum(c.weight for c in plan.cells) == pytest.approx(1)
    by_category: dict[str, int] = {}
    for cell in plan.cells:
        by_category[cell.category] = by_category.get(cell.category, 0) + cell.quota
    if floor and total >= len(by_category):
        assert min(by_category.values()) >= max(1, int(min(floor, 1 / len(by_category)) * total))


@given(st.lists(COUNTS.filter(lambda c: c[1] > 0), min_size=2, max_size=6), st.integers(1, 300), st.data())
def test_a_cell_that_gets_worse_never_gets_less(counts: list[tuple[int, int]], total: int, data: st.DataObject) -> None:
    worse = data.draw(st.integers(0, counts[0][0]))
    cells = [make_cell(f"c{i}", "x", *c) for i, c in enumerate(counts)]
    config = PlanConfig(total=total, floor=0.0)
    quota = make_plan(diagnosis(*cells), config).quotas["c0/x"]
    cells[0] = make_cell("c0", "x", worse, counts[0][1])
    assert make_plan(diagnosis(*cells), config).quotas["c0/x"] >= quota


def test_replay_is_a_share_of_the_total() -> None:
    plan = make_plan(diagnosis(make_cell("a", "x", 1, 2)), PlanConfig(total=256, replay=0.1))
    assert (plan.total, plan.replay) == (256, 26)


def test_a_diagnosis_without_cells_is_refused() -> None:
    with pytest.raises(PoolError):
        make_plan(diagnosis(), PlanConfig())


def failure(text: str) -> Failure:
    return Failure("id", "q", "r", "t", Attribution("reasoning", text))


def test_an_instruction_names_the_main_errors_and_what_was_seen() -> None:
    cell = make_cell(
        "map",
        "find_way",
        3,
        10,
        error_types={"calculation": 1, "not_judged": 2, "reasoning": 4},
        failures=(failure("It turned left."), failure("It turned left."), failure("")),
    )
    assert instruction(cell) == (
        "Exercise find way: 3 of 10 answers were right. Mostly the facts are right but the conclusion is not and the "
        "numbers are seen but combined wrongly. Seen: It turned left."
    )


@given(st.lists(st.text(max_size=600), max_size=5), st.text("abc_", max_size=500))
def test_words_of_a_model_stay_one_short_printable_line(texts: list[str], skill: str) -> None:
    text = instruction(make_cell("a", skill, 0, 9, error_types={"other": 9}, failures=tuple(map(failure, texts))))
    assert len(text) <= LONGEST
    assert len(text.splitlines()) == 1
    assert text.isprintable()


def test_an_unprobed_cell_says_so() -> None:
    assert "nothing is known" in instruction(make_cell("a", "x", 0, 0))
