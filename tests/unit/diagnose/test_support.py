import json
from dataclasses import dataclass, field
from pathlib import Path

from builders import FakeChat, make_sample, silent_chat

from dpe_ray.diagnose.support import list_support_skills
from dpe_ray.models.journal import Call, Journal, JournaledChat
from dpe_ray.ports import ChatReply, ChatRequest
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.taxonomy import Taxonomy
from dpe_ray.types import Sample

SUPPORT = tuple(make_sample(f"Question {i}?", "red", category="map") for i in range(12))


async def label(lister: object, samples: tuple[Sample, ...] = SUPPORT) -> tuple[Sample, ...]:
    return await list_support_skills(
        samples,
        lister,  # type: ignore[arg-type]
        LocalMapper(),
        Taxonomy({"map": ("find_north",)}),
        workers=(1, 1),
        concurrency=4,
    )


@dataclass
class CountingDoor:
    """A door with a durable journal; every opening is a new process's, every call that gets through is counted."""

    folder: Path
    asked: list[str] = field(default_factory=list)

    def open(self) -> JournaledChat:
        return JournaledChat(self, Journal(self.folder, "lister"), "lister", "teacher")

    async def ask(self, request: ChatRequest, call: Call) -> ChatReply:
        self.asked.append(request.item)
        return ChatReply((json.dumps({"skills": ["read names on a map"]}),), "teacher", "")


async def test_a_second_annotation_makes_no_teacher_call(tmp_path: Path) -> None:
    door = CountingDoor(tmp_path)
    first = await label(door)
    assert sorted(door.asked) == sorted(s.id for s in SUPPORT)
    second = await label(door, SUPPORT[::-1])
    assert len(door.asked) == len(SUPPORT)
    assert second == first[::-1]


async def test_samples_keep_their_order_and_get_one_to_five_usable_skills() -> None:
    said = ["find red things", "read labels", "image understanding", *[f"follow roads of kind {c}x" for c in "abcdef"]]
    labelled = await label(FakeChat(lambda r: json.dumps({"skills": said})))
    assert [s.id for s in labelled] == [s.id for s in SUPPORT]
    assert labelled[0].skills == ("read labels", *[f"follow roads of kind {c}x" for c in "abcd"])


async def test_a_list_without_a_usable_skill_is_asked_for_once_more_with_the_reason() -> None:
    lister = FakeChat(lambda r: json.dumps({"skills": ["spot red"] if len(r.messages) == 1 else ["spot colours"]}))
    (labelled,) = await label(lister, SUPPORT[:1])
    assert labelled.skills == ("spot colours",)
    assert "leak" in lister.requests[1].messages[-1].text


async def test_an_outage_leaves_a_sample_without_labels() -> None:
    assert {s.skills for s in await label(silent_chat())} == {()}
