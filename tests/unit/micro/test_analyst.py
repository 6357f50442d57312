import hashlib
import json
from pathlib import Path
from random import Random

import pytest
from builders import make_image_ref

from dpe_ray.diagnose.interventions import Observation
from dpe_ray.diagnose.missing import MissingSettings, find_missing_skills
from dpe_ray.diagnose.support import list_support_skills
from dpe_ray.micro.oracle import OracleEngine
from dpe_ray.micro.world import CATEGORY_OF, SKILLS, Item, Scene, ask, make_scene, wrong_item
from dpe_ray.models.images import read_bytes
from dpe_ray.models.prompts import PromptFile
from dpe_ray.ports import EngineRequest
from dpe_ray.rounds.local import EngineDoor, LocalMapper
from dpe_ray.taxonomy import Taxonomy
from dpe_ray.types import Answer, AnswerKind, ErrorRecord, MistakeLocation, Sample

KINDS = {"visual_recognition": "perception", "misunderstanding": "instruction"}


def asked(tmp_path: Path, skill: str) -> tuple[Scene, Item, Sample, EngineDoor]:
    """One item of a skill with a stand-in for its picture, and the oracle that knows its scene."""
    rng = Random(5)
    scene = make_scene(CATEGORY_OF[skill], 2, rng)
    item = ask(scene, skill, rng)
    picture = tmp_path / "picture"
    picture.write_bytes(b"a picture")
    sha = hashlib.sha256(b"a picture").hexdigest()
    (tmp_path / "truth.jsonl").write_text(json.dumps({"image": sha, "scene": json.loads(scene.to_json())}))
    image = make_image_ref("x", sha256=sha, uri=str(picture))
    answer = Answer(AnswerKind(item.kind), item.answer)
    sample = Sample((image,), item.question, answer, item.options, category=scene.category)
    return scene, item, sample, EngineDoor(OracleEngine(str(tmp_path / "truth.jsonl"), {}), "oracle")


@pytest.mark.parametrize("mode", ["one", "multi"])
@pytest.mark.parametrize("skill", SKILLS)
async def test_the_error_analyst_names_the_skill_and_the_kind_of_every_mistake(tmp_path, skill, mode) -> None:
    scene, item, sample, door = asked(tmp_path, skill)
    rule = SKILLS[skill].rules[0]
    wrong = wrong_item(scene, item, rule.name)
    assert wrong is not None
    steps = (wrong.target, wrong.facts_text, wrong.conclusion)
    error = ErrorRecord(sample.id, scene.category, steps, wrong.answer, MistakeLocation("random", 2, "found"), ())
    (found,) = await find_missing_skills(
        [error], {sample.id: sample}, door, LocalMapper(), Taxonomy({}),
        workers=(1, 1), concurrency=1, settings=MissingSettings(mode=mode),
    )  # fmt: skip
    assert found.dropped == ""
    assert (found.skills[0].name, found.skills[0].text) == (skill, SKILLS[skill].description)
    assert len(found.skills) == (1 if mode == "one" else 2)
    assert sum(s.weight for s in found.skills) == pytest.approx(1)
    assert found.error_kind == KINDS.get(rule.error, "reasoning")
    assert found.evidence == wrong.facts_text


@pytest.mark.parametrize("skill", SKILLS)
async def test_support_labels_hold_the_words_by_which_errors_are_retrieved(tmp_path, skill) -> None:
    _, _, sample, door = asked(tmp_path, skill)
    (labelled,) = await list_support_skills([sample], door, LocalMapper(), Taxonomy({}), workers=(1, 1), concurrency=1)
    assert labelled.skills[0] == SKILLS[skill].description
    assert 2 <= len(labelled.skills) <= 5


@pytest.mark.parametrize("skill", ["read_digit", "speck_count"])
async def test_the_observer_tells_the_facts_and_where_they_are(tmp_path, skill) -> None:
    _, item, sample, door = asked(tmp_path, skill)
    prompt = PromptFile.load("dpe_ray.diagnose", "observer").render(question=item.question, options=[])
    engine, data = door.engine, read_bytes(sample.images[0])
    (reply,) = await engine.chat(EngineRequest((("user", prompt, (data,)),)))
    seen = Observation.model_validate_json(reply.text)
    assert seen.facts == item.facts_text
    assert (seen.region is None) == (skill == "speck_count")


async def test_an_unknown_picture_gives_no_usable_reply(tmp_path) -> None:
    _, _, sample, door = asked(tmp_path, "read_digit")
    Path(sample.images[0].uri).write_bytes(b"another picture")
    (labelled,) = await list_support_skills([sample], door, LocalMapper(), Taxonomy({}), workers=(1, 1), concurrency=1)
    assert labelled.skills == ()
