import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import FakeChat, make_graded, make_png, make_sample

from dpe_ray.diagnose.cells import make_diagnosis
from dpe_ray.diagnose.routes import Named, RouteSettings, guessing_cells, measure_needs, route
from dpe_ray.diagnose.sampling import Draws
from dpe_ray.errors import ModelUnavailable
from dpe_ray.pool.images import ImageStore
from dpe_ray.ports import ChatRequest
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.types import Attribution, Graded, Need, Sample

OPTIONS = ("red", "blue", "green", "grey")
FIRM = ("red",) * 8
"""What the student of these tests says eight times over; the right answer is blue."""


@pytest.fixture
def make_item(tmp_path: Path) -> Callable[..., Sample]:
    image = ImageStore(tmp_path / "images").put(make_png(1))

    def make(question: str = "Which?", skill: str = "see") -> Sample:
        return make_sample(question, "B", options=OPTIONS, image=image, skills=(skill,))

    return make


def answer(sample: Sample, colour: str) -> str:
    return f"answer: {sample.letters[sample.options.index(colour)]}"


def draws(sample: Sample, *colours: str) -> Draws:
    return Draws(sample, tuple(answer(sample, colour) for colour in colours))


def shown(request: ChatRequest, colour: str) -> str:
    """The answer for a colour, in the order in which the request shows the options."""
    text = request.messages[0].text
    return f"answer: {text[text.index(f') {colour}') - 1]}"


async def needs(
    tmp_path: Path,
    graded: list[Graded],
    drawn: dict[str, Draws],
    student: Callable[[ChatRequest], Any],
    teacher: Callable[[ChatRequest], Any] = lambda r: json.dumps({"facts": "it is blue", "region": None}),
    error_type: str = "reasoning",
) -> tuple[dict[str, Named], FakeChat]:
    asked = FakeChat(student)
    found = await measure_needs(
        graded,
        drawn,
        {g.sample.id: Attribution(error_type, "") for g in graded},
        asked,
        FakeChat(teacher),
        LocalMapper(),
        settings=RouteSettings(str(tmp_path / "zoomed")),
        max_tokens=20,
        workers=(1, 1),
        concurrency=4,
    )
    return found, asked


async def one_need(tmp_path: Path, item: Sample, student: Callable[[ChatRequest], Any], **fakes: Any) -> Named:
    found, _ = await needs(tmp_path, [make_graded(item, "wrong")], {item.id: draws(item, *FIRM)}, student, **fakes)
    return found[item.id]


async def test_a_right_answer_among_k_makes_an_item_elicitable_without_a_further_call(tmp_path, make_item) -> None:
    item = make_item()
    drawn = {item.id: draws(item, *FIRM[:-1], "blue")}
    found, asked = await needs(tmp_path, [make_graded(item, "wrong")], drawn, lambda r: "")
    assert found == {item.id: Named(Need.ELICITABLE, "sampled")}
    assert asked.requests == []


async def test_right_and_unjudged_items_have_no_need(tmp_path, make_item) -> None:
    items = [make_item("One?"), make_item("Two?")]
    graded = [make_graded(items[0], "correct"), make_graded(items[1], "not_judged")]
    found, _ = await needs(tmp_path, graded, {s.id: draws(s, *FIRM) for s in items}, lambda r: "")
    assert found == {}


async def test_facts_that_repair_name_perception(tmp_path, make_item) -> None:
    named = await one_need(
        tmp_path, make_item(), lambda r: shown(r, "blue" if r.messages[0].text.startswith("Facts:") else "red")
    )
    assert named == Named(Need.PERCEPTION, "facts")


async def test_an_enlarged_picture_that_repairs_names_perception(tmp_path, make_item) -> None:
    named = await one_need(
        tmp_path, make_item(), lambda r: shown(r, "blue" if r.messages[0].images[0].width == 128 else "red")
    )
    assert named == Named(Need.PERCEPTION, "zoom")


async def test_reordered_options_that_repair_name_format(tmp_path, make_item) -> None:
    named = await one_need(
        tmp_path, make_item(), lambda r: shown(r, "red" if "(A) red" in r.messages[0].text else "blue")
    )
    assert named == Named(Need.FORMAT, "shuffled")


async def test_a_student_that_likes_one_letter_is_not_repaired_by_another_order(tmp_path, make_item) -> None:
    assert await one_need(tmp_path, make_item(), lambda r: "answer: A") == Named(Need.KNOWLEDGE, "none")


async def test_an_unparsable_answer_that_the_judge_reads_as_right_names_format(tmp_path, make_item) -> None:
    item = make_item()
    judge = json.dumps({"correct": True, "error_type": "other", "description": "", "facts": "x"})
    found, _ = await needs(
        tmp_path,
        [make_graded(item, "unparsable", "It is the blue one, I think.")],
        {item.id: draws(item, *FIRM[:-1], "blue")},
        lambda r: "answer: A",
        teacher=lambda r: judge,
    )
    assert found == {item.id: Named(Need.FORMAT, "read")}


async def test_what_nothing_repairs_lacks_knowledge_even_if_the_judge_saw_a_misperception(tmp_path, make_item) -> None:
    named = await one_need(tmp_path, make_item(), lambda r: shown(r, "red"), error_type="visual_recognition")
    assert named == Named(Need.KNOWLEDGE, "none")


@pytest.mark.parametrize(
    ("error_type", "named"),
    [
        ("visual_recognition", Named(Need.PERCEPTION, "judge")),
        ("reasoning", Named(Need.KNOWLEDGE, "none")),
    ],
)
async def test_of_guesses_a_lucky_one_elicits_nothing_and_the_judge_decides(
    tmp_path, make_item, error_type: str, named: Named
) -> None:
    items = [make_item(f"{i}?") for i in range(6)]
    drawn = {item.id: draws(item, *OPTIONS, *OPTIONS) for item in items}
    graded = [make_graded(item, "wrong") for item in items]
    assert guessing_cells(graded, drawn, 0.2) == {("geometric", "see")}
    found, _ = await needs(tmp_path, graded, drawn, lambda r: shown(r, "red"), error_type=error_type)
    assert set(found.values()) == {named}


async def test_five_of_eight_right_answers_under_an_intervention_repair_nothing(tmp_path, make_item) -> None:
    def coin(request: ChatRequest) -> list[str]:
        blue = -(-request.n * 5 // 8)
        return [shown(request, "blue")] * blue + [shown(request, "red")] * (request.n - blue)

    assert (await one_need(tmp_path, make_item(), coin)).need is not Need.PERCEPTION


@pytest.mark.parametrize("who", ["student", "teacher"])
async def test_an_outage_leaves_an_item_unmeasured(tmp_path, make_item, who: str) -> None:
    item = make_item()
    down = {who: lambda r: ModelUnavailable("down")}
    found, _ = await needs(
        tmp_path,
        [make_graded(item, "wrong")],
        {item.id: draws(item, *FIRM)},
        **({"student": lambda r: shown(r, "red")} | down),
    )
    assert found == {}


def test_a_cell_has_the_need_of_most_items_and_ties_go_to_the_cheaper_remedy() -> None:
    knows, sees, draws_ = (
        Named(Need.KNOWLEDGE, "none"),
        Named(Need.PERCEPTION, "zoom"),
        Named(Need.ELICITABLE, "sampled"),
    )
    assert route([knows, sees, sees]) == (Need.PERCEPTION, {"perception": 2, "knowledge": 1})
    assert route([knows, draws_])[0] is Need.ELICITABLE
    assert route([]) == (None, {})


def test_a_cell_keeps_what_measured_its_needs(make_item: Callable[..., Sample]) -> None:
    failed = [make_graded(make_item(f"Which, {i}?"), "wrong") for i in range(3)]
    named = dict(
        zip(
            (g.sample.id for g in failed),
            (Named(Need.PERCEPTION, "zoom"), Named(Need.PERCEPTION, "facts")),
            strict=False,
        )
    )
    reasons = {g.sample.id: Attribution("reasoning", "x") for g in failed}
    (cell,) = make_diagnosis(0, failed, reasons, 1, needs=named).cells
    assert (cell.needs, cell.measured_by) == ({"perception": 2}, {"zoom": 1, "facts": 1})
