from builders import make_cell

from dpe_ray.plan.missing_skills import queries_by_cell, weights_by_cell, with_missing_skills
from dpe_ray.types import Diagnosis, ErrorRecord, MissingSkill, MistakeLocation

FOUND = MistakeLocation("answer_switch", 2, "found")
TWO = (MissingSkill("legend", "read a legend", 0.5), MissingSkill("scale", "measure", 0.5))
ERRORS = (
    ErrorRecord("1", "map", ("s",), "A", FOUND, (MissingSkill("scale", "use the scale bar"),)),
    ErrorRecord("2", "map", ("s",), "A", FOUND, TWO),
    ErrorRecord("3", "map", ("s",), "A", FOUND, (), "leak"),
)


def test_a_missing_skill_that_no_item_was_filed_under_becomes_a_cell() -> None:
    diagnosis = with_missing_skills(Diagnosis(0, (make_cell("map", "scale", 1, 2),), "p", 2, 0, ERRORS))
    assert [(c.cell, c.attempts) for c in diagnosis.cells] == [("map/legend", 0), ("map/scale", 2)]


def test_without_errors_a_diagnosis_stays_as_it_is() -> None:
    diagnosis = Diagnosis(0, (make_cell("map", "scale", 1, 2),), "p", 2, 0)
    assert with_missing_skills(diagnosis) is diagnosis


def test_an_error_counts_one_however_many_skills_it_lacks_and_nothing_without_a_usable_one() -> None:
    assert weights_by_cell(ERRORS) == {"map/scale": 1.5, "map/legend": 0.5}


def test_queries_are_the_analysts_words_one_per_error() -> None:
    assert queries_by_cell(ERRORS) == {"map/scale": ("use the scale bar", "measure"), "map/legend": ("read a legend",)}
