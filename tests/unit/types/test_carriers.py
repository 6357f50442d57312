import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
from builders import make_cell, make_graded, make_image_ref, make_sample
from hypothesis import given
from hypothesis import strategies as st

from dpe_ray import errors
from dpe_ray.types import (
    CellPlan,
    DataPlan,
    Diagnosis,
    Difficulty,
    Graded,
    Provenance,
    Verdict,
    VerdictKind,
    content_id,
)


def test_an_id_is_the_hash_of_what_is_asked_and_nothing_else() -> None:
    sample = make_sample()
    labelled = replace(
        sample, category="map", skills=("x",), provenance=Provenance("generated", 2), difficulty=Difficulty(0.5, 9, 1)
    )
    assert labelled.id == sample.id
    ids = {
        sample.id,
        make_sample("Other?").id,
        make_sample(answer="blue").id,
        make_sample(image=make_image_ref("other")).id,
        make_sample(answer="A", options=("red", "blue")).id,
    }
    assert len(ids) == 5


@given(st.lists(st.text(), max_size=4))
def test_ids_are_sixteen_hex_digits_and_stable(parts: list[str]) -> None:
    assert content_id(*parts) == content_id(*parts)
    assert len(content_id(*parts)) == 16
    int(content_id(*parts), 16)


def test_an_id_is_the_same_in_every_process_and_version() -> None:
    assert content_id("a", 1, ["b"]) == "206deece1e62e0a8"


def test_carriers_are_frozen_and_pickle() -> None:
    graded = make_graded()
    assert graded.sample.id  # a cached id must not hinder pickling
    assert pickle.loads(pickle.dumps(graded)) == graded
    with pytest.raises(FrozenInstanceError):
        graded.text = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "judged", "correct"),
    [("correct", True, True), ("wrong", True, False), ("unparsable", True, False), ("not_judged", False, False)],
)
def test_an_outage_is_not_judged_and_an_unparsable_answer_is(kind: str, judged: bool, correct: bool) -> None:
    verdict = Verdict(VerdictKind(kind), "text@1")
    assert (verdict.judged, verdict.correct) == (judged, correct)


def test_a_plan_refuses_quotas_that_miss_the_total() -> None:
    cells = (CellPlan("map", "x", 0.5, 3, ""), CellPlan("map", "y", 0.5, 4, ""))
    assert DataPlan(cells, 7).quotas == {"map/x": 3, "map/y": 4}
    with pytest.raises(ValueError, match="sum to 7, not to 8"):
        DataPlan(cells, 8)


def test_a_diagnosis_adds_up_its_cells_by_category() -> None:
    cells = make_cell("a", "x", 1, 4), make_cell("a", "y", 2, 2), make_cell("b", "z", 0, 0)
    diagnosis = Diagnosis(0, cells, "p", 7, 1)
    assert diagnosis.by_category() == {"a": (6, 3), "b": (0, 0)}
    assert diagnosis.cells[2].accuracy == 0.0
    assert diagnosis.id != replace(diagnosis, policy_version=1).id


def test_letters_name_the_options() -> None:
    assert make_sample(answer="A", options=("x", "y", "z")).letters == "ABC"
    assert make_sample().letters == ""


def test_every_error_pickles_and_is_one_of_ours() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.DpeError)]
    assert len(classes) >= 11
    for error in classes:
        copy = pickle.loads(pickle.dumps(error("what broke; what to do")))
        assert type(copy) is error
        assert str(copy) == "what broke; what to do"


def test_graded_keeps_the_text_of_the_policy() -> None:
    assert Graded(make_sample(), "answer: red", Verdict(VerdictKind.CORRECT, "text@1")).text == "answer: red"
