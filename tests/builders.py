"""One line per object in a test. Fakes are small, honest and scripted by a plain function."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

from dpe_ray.errors import ModelUnavailable
from dpe_ray.ports import ChatReply, ChatRequest
from dpe_ray.types import Answer, AnswerKind, CellDiagnosis, Graded, ImageRef, Provenance, Sample, Verdict, VerdictKind


def make_image_ref(name: str = "image", **fields: object) -> ImageRef:
    """A reference without bytes behind it; another name is another image."""
    sha = f"{sum(ord(c) * 31**i for i, c in enumerate(name)):064x}"[-64:]
    values: dict[str, object] = {
        "sha256": sha,
        "phash": sha[-16:],
        "width": 64,
        "height": 64,
        "media_type": "image/png",
        "uri": f"/nowhere/{name}",
    }
    return ImageRef(**(values | fields))  # type: ignore[arg-type]


def make_sample(
    question: str = "What colour is it?",
    answer: str = "red",
    *,
    kind: str = "text",
    options: tuple[str, ...] = (),
    category: str = "geometric",
    image: ImageRef | None = None,
    skills: tuple[str, ...] = (),
    tolerance: float = 0.0,
    aliases: tuple[str, ...] = (),
    cell: str = "",
) -> Sample:
    """A sample with one image; options make it a choice question."""
    return Sample(
        images=(image or make_image_ref(),),
        question=question,
        answer=Answer(AnswerKind.CHOICE if options else AnswerKind(kind), answer, aliases, tolerance),
        options=options,
        category=category,
        skills=skills,
        provenance=Provenance("support", cell=cell),
    )


def make_graded(sample: Sample | None = None, kind: str = "correct", text: str = "answer: red") -> Graded:
    """A graded item; `kind` is correct, wrong, unparsable or not_judged."""
    return Graded(sample or make_sample(), text, Verdict(VerdictKind(kind), "text@1"))


def make_cell(category: str, skill: str, correct: int, attempts: int, **fields: object) -> CellDiagnosis:
    """A cell with a loose interval."""
    values: dict[str, object] = {"low": 0.0, "high": 1.0, "error_types": {}}
    return CellDiagnosis(category, skill, attempts, correct, **(values | fields))  # type: ignore[arg-type]


def make_png(seed: int = 0, size: int = 64) -> bytes:
    """A small picture of coloured boxes; another seed is clearly another picture."""
    rng = Random(seed)
    picture = Image.new("RGB", (size, size), tuple(rng.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(picture)
    for _ in range(8):
        x, y = rng.randrange(size), rng.randrange(size)
        draw.rectangle((x, y, x + size // 3, y + size // 4), fill=tuple(rng.randrange(256) for _ in range(3)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: Path, seed: int = 0) -> Path:
    """A picture as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(make_png(seed))
    return path


Script = Callable[[ChatRequest], str | list[str] | Exception]


@dataclass
class FakeChat:
    """A ChatModel and its own ChatDoor. The script answers with a text, n texts, or an error to raise."""

    script: Script
    requests: list[ChatRequest] = field(default_factory=list)

    def open(self) -> "FakeChat":
        """Same object: what was asked stays countable."""
        return self

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Ask the script."""
        self.requests.append(request)
        said = self.script(request)
        if isinstance(said, Exception):
            raise said
        texts = (said,) * request.n if isinstance(said, str) else tuple(said)
        return ChatReply(texts, "fake", f"call-{len(self.requests)}", prompt_tokens=10, completion_tokens=5)


def silent_chat() -> FakeChat:
    """An endpoint that is down."""
    return FakeChat(lambda request: ModelUnavailable("models.fake: did not answer; check the endpoint"))
