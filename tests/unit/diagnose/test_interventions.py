from pathlib import Path

import pytest
from builders import FakeChat, make_png, make_sample
from PIL import Image

from dpe_ray.diagnose.interventions import Observation, enlarged, observe, reordered, with_facts
from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.models.prompts import PromptFile
from dpe_ray.pool.images import ImageStore
from dpe_ray.types import Sample

OBSERVER = PromptFile.load("dpe_ray.diagnose", "observer")
FACTS = PromptFile.load("dpe_ray.diagnose", "given_facts")


@pytest.fixture
def item(tmp_path: Path) -> Sample:
    return make_sample(image=ImageStore(tmp_path / "images").put(make_png(1)))


def test_facts_stand_before_the_usual_prompt_and_the_image_stays() -> None:
    sample = make_sample()
    asking = with_facts(sample, "two  bars,\nthe left one taller", FACTS)
    assert asking.text == f"Facts: two bars, the left one taller\n{answer_prompt(sample).text}"
    assert asking.images == sample.images
    assert asking.prompt_version == "given_facts@1+answer@1"


def test_without_a_region_the_whole_picture_is_doubled(item: Sample, tmp_path: Path) -> None:
    asking = enlarged(item, Observation(facts="x"), tmp_path / "zoomed")
    (image,) = asking.images
    assert (image.width, image.height, image.origin) == (128, 128, "edit")
    assert Image.open(image.uri).size == (128, 128)
    assert image.sha256 == Path(image.uri).name


def test_a_region_is_cut_out_enlarged_and_put_behind_the_picture(item: Sample, tmp_path: Path) -> None:
    asking = enlarged(item, Observation(facts="x", region=(0.5, 0.0, 0.75, 0.25)), tmp_path)
    whole, part = asking.images
    assert whole == item.images[0]
    assert max(part.width, part.height) == 64
    again = enlarged(item, Observation(facts="x", region=(0.5, 0.0, 0.75, 0.25)), tmp_path)
    assert again == asking


@pytest.mark.parametrize("region", [None, [0, 0, 1], [0.5, 0, 0.5, 1], [0, 0, 200, 300], "left", [0, 0, "a", 1]])
def test_a_region_that_is_none_counts_as_not_given(region: object) -> None:
    assert Observation.model_validate({"facts": "x", "region": region}).region is None


def test_options_are_shown_in_every_other_rotation_and_graded_there() -> None:
    sample = make_sample("Which?", "A", options=("red", "blue", "green"))
    askings = reordered(sample)
    assert {a.sample.options for a in askings} == {("blue", "green", "red"), ("green", "red", "blue")}
    assert all(a.sample.options[a.sample.letters.index(a.sample.answer.value)] == "red" for a in askings)


@pytest.mark.parametrize("options", [(), ("red", "blue", "none of the above")])
def test_options_whose_order_is_their_meaning_stay(options: tuple[str, ...]) -> None:
    assert reordered(make_sample("Which?", "A", options=options)) == []


async def test_the_observer_sees_image_and_question_and_never_the_answer() -> None:
    observer = FakeChat(lambda r: '{"facts": "a bar of 3", "region": [0.1, 0.1, 0.4, 0.4]}')
    sample = make_sample("How tall?", "secret")
    seen = await observe(sample, observer, OBSERVER)
    assert (seen.facts, seen.region) == ("a bar of 3", (0.1, 0.1, 0.4, 0.4))
    (message,) = observer.requests[0].messages
    assert message.images == sample.images
    assert "How tall?" in message.text
    assert "secret" not in message.text
