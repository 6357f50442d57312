import pytest
from builders import make_cell
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray.config import PlanConfig
from dpe_ray.errors import PoolError
from dpe_ray.plan.instruction import LONGEST, instruction
from dpe_ray.plan.methods import METHODS
from dpe_ray.plan.stage import make_plan
from dpe_ray.types import (
    Attribution,
    CellDiagnosis,
    Diagnosis,
    ErrorRecord,
    Failure,
    MissingSkill,
    MistakeLocation,
    Need,
)

COUNTS = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda t: (min(t), max(t)))


def diagnosis(*cells: CellDiagnosis) -> Diagnosis:
    return Diagnosis(0, cells, "probe", 100, 0)


@given(
    st.dictionaries(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz")), COUNTS, min_size=1),
    st.integers(1, 600),
    st.sampled_from([0.0, 0.02, 0.1]),
    st.sampled_from(list(METHODS)),
    st.sampled_from([None, 3]),
)
def test_quotas_sum_to_the_total_and_no_category_falls_below_the_floor(
    counts: dict[tuple[str, str], tuple[int, int]], total: int, floor: float, method: str, permute: int | None
) -> None:
    config = PlanConfig(method=method, total=total, floor=floor, permute_seed=permute)  # type: ignore[arg-type]
    plan = make_plan(diagnosis(*[make_cell(*k, *v) for k, v in counts.items()]), config)
    assert sum(plan.quotas.values()) == total
    assert sum(c.weight for c in plan.cells) == pytest.approx(1)
    by_category: dict[str, int] = {}
    for cell in plan.cells:
        by_category[cell.category] = by_category.get(cell.category, 0) + cell.quota
    if floor and total >= len(by_category):
        assert min(by_category.values()) >= max(1, int(min(floor, 1 / len(by_category)) * total))
    if floor and total >= 2 * len(plan.cells) + 0.1 * len(by_category) * total:
        assert min(plan.quotas.values()) >= 1


@given(
    st.lists(COUNTS.filter(lambda c: c[1] > 0), min_size=2, max_size=6),
    st.integers(1, 300),
    st.sampled_from(["tiered", "error_count"]),
    st.data(),
)
def test_a_cell_that_gets_worse_never_gets_less(
    counts: list[tuple[int, int]], total: int, method: str, data: st.DataObject
) -> None:
    worse = data.draw(st.integers(0, counts[0][0]))
    cells = [make_cell(f"c{i}", "x", *c) for i, c in enumerate(counts)]
    config = PlanConfig(method=method, total=total, floor=0.0)  # type: ignore[arg-type]
    quota = make_plan(diagnosis(*cells), config).quotas["c0/x"]
    cells[0] = make_cell("c0", "x", worse, counts[0][1])
    assert make_plan(diagnosis(*cells), config).quotas["c0/x"] >= quota


def test_replay_is_a_share_of_the_total() -> None:
    plan = make_plan(diagnosis(make_cell("a", "x", 1, 2)), PlanConfig(total=256, replay=0.1))
    assert (plan.total, plan.replay) == (256, 26)


def test_no_cell_vanishes_beside_a_heavy_one_in_the_same_category() -> None:
    cells = [make_cell("a", "weak", 0, 90), make_cell("a", "strong", 90, 90), make_cell("b", "x", 10, 10)]
    plan = make_plan(diagnosis(*cells), PlanConfig(method="error_count", total=50))
    assert plan.quotas == {"a/weak": 48, "a/strong": 1, "b/x": 1}


def test_a_total_too_small_for_every_cell_still_reaches_every_category() -> None:
    cells = [*[make_cell("a", f"s{i}", 0, 2) for i in range(19)], make_cell("b", "x", 2, 2)]
    quotas = make_plan(diagnosis(*cells), PlanConfig(total=20, floor=0.1)).quotas
    assert quotas["b/x"] == 2


def test_need_and_queries_reach_the_plan() -> None:
    found = MistakeLocation("answer_switch", 1, "found")
    errors = (ErrorRecord("1", "a", ("s",), "B", found, (MissingSkill("y", "compare two heights"),)),)
    cells = (make_cell("a", "x", 0, 4, need=Need.PERCEPTION),)
    plan = make_plan(Diagnosis(0, cells, "probe", 4, 0, errors), PlanConfig(method="error_count", total=10))
    x, y = plan.cells
    assert (x.cell, x.need, x.queries) == ("a/x", Need.PERCEPTION, ())
    assert (y.cell, y.need, y.queries) == ("a/y", Need.ELICITABLE, ("compare two heights",))
    assert y.quota > x.quota >= 1
    assert "compare two heights" in y.instruction


def test_a_permuted_plan_has_the_same_quotas_elsewhere() -> None:
    cells = [make_cell(f"c{i}", "x", i, 10) for i in range(10)]
    aimed = make_plan(diagnosis(*cells), PlanConfig(method="posterior", total=300, floor=0.0))
    dealt = make_plan(diagnosis(*cells), PlanConfig(method="posterior", total=300, floor=0.0, permute_seed=0))
    assert sorted(dealt.quotas.values()) == sorted(aimed.quotas.values())
    assert dealt.quotas != aimed.quotas


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
