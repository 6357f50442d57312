"""A small real student, groups made by hand, and a rollout pool in this process, for the tests of training."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from torch import nn

from dpe_ray.errors import TrainingError
from dpe_ray.micro.student import build_model, build_processor, save_student
from dpe_ray.models.policy import load_policy, render
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.types import (
    Answer,
    AnswerKind,
    Completion,
    ImageRef,
    PolicyRef,
    Prompt,
    Rollout,
    RolloutGroup,
    Sample,
)

WORDS = ("red", "blue", "green", "left", "right", "up", "down", "circle", "square", "how", "many", "is", "the")


def save_tiny_student(folder: Path, seed: int = 0, *, tied: bool = True) -> PolicyRef:
    """An untrained student of the micro architecture; its head is its embedding, or weights of its own."""
    processor = build_processor([f" {word}" for word in WORDS])
    model = build_model(processor, seed)
    if not tied:
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().flip(0))
    save_student(model, processor, folder)
    return PolicyRef(str(folder))


def make_prompt(folder: Path, index: int, question: str = "how many red square") -> Prompt:
    """A question about a picture of its own."""
    file = folder / f"{index}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.png")
    Image.new("RGB", (64, 64), (20 * index % 256, 100, 50)).save(part)
    part.replace(file)  # ranks make the same pictures at the same time
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    image = ImageRef(digest, "0" * 16, 64, 64, "image/png", str(file))
    sample = Sample((image,), question, Answer(AnswerKind.TEXT, "red"), category="natural_scene")
    return Prompt(sample, question)


def make_prompts(folder: Path, count: int = 6, rationale: str = "") -> list[Prompt]:
    """Questions of different lengths about pictures of their own, with short answers or with a rationale."""
    prompts = [make_prompt(folder, index, " ".join(WORDS[: 3 + index % 5])) for index in range(count)]
    answers = [replace(prompt.sample.answer, value=WORDS[index % 3]) for index, prompt in enumerate(prompts)]
    return [
        replace(prompt, sample=replace(prompt.sample, answer=answer, rationale=rationale))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def with_picture(prompt: Prompt, file: Path, size: tuple[int, int]) -> Prompt:
    """The prompt about a plain picture of that many pixels, left at `file`."""
    Image.new("RGB", size).save(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    image = ImageRef(digest, "0" * 16, *size, "image/png", str(file))
    return replace(prompt, sample=replace(prompt.sample, images=(image,)))


def make_group(
    prompt: Prompt,
    prompt_ids: Sequence[int],
    rewards: Sequence[float],
    completions: Sequence[Sequence[int]],
    logprob: float = -5.0,
) -> RolloutGroup:
    """A group as an engine would give it, rewards filled."""
    rollouts = tuple(
        Rollout(Completion("x", tuple(ids), (logprob,) * len(ids)), reward, {"accuracy": reward})
        for ids, reward in zip(completions, rewards, strict=True)
    )
    return RolloutGroup(prompt, rollouts, 0, tuple(prompt_ids))


def make_groups(policy: PolicyRef, folder: Path, count: int = 3) -> list[RolloutGroup]:
    """Groups of four with prompts and completions of different lengths."""
    processor = load_policy(policy).processor
    groups = []
    for index in range(count):
        prompt = make_prompt(folder, index, " ".join(WORDS[: 3 + 2 * index]))
        ids = render(processor, prompt.text, [Image.open(prompt.sample.images[0].uri)])["input_ids"][0].tolist()
        completions = [[10 + index + k for k in range(2 + (index + member) % 4)] for member in range(4)]
        groups.append(make_group(prompt, ids, [1.0, 0.0, float(index % 2), 0.5], completions))
    return groups


class LocalPool:
    """A RolloutPool over one engine in this process."""

    def __init__(self, policy: PolicyRef) -> None:
        self.engine = TransformersEngine(policy.base, {})
        self.published: list[PolicyRef] = []

    def rollout(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
    ) -> list[RolloutGroup]:
        """As `RolloutPool.rollout`."""
        return self.engine.rollout(
            prompts, group_size=group_size, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed
        )

    def publish(self, policy: PolicyRef) -> None:
        """As `RolloutPool.publish`."""
        self.published.append(policy)
        self.engine.load_policy(policy)


@dataclass
class FolderPool:
    """A pool whose engines, one in every worker, learn of a published policy through a file."""

    base: str
    folder: str
    dies_once_at: int = 0
    """The process ends at this publish, the first time it comes to it."""

    def __post_init__(self) -> None:
        self._pool = LocalPool(PolicyRef(self.base))
        self._count = 0

    def rollout(self, prompts: Sequence[Prompt], **settings: object) -> list[RolloutGroup]:
        """Take up what is published, then sample."""
        base, adapter, version = (Path(self.folder) / "published").read_text().split("\n")
        self._pool.publish(PolicyRef(base, adapter, int(version)))
        return self._pool.rollout(prompts, **settings)  # type: ignore[arg-type]

    def publish(self, policy: PolicyRef) -> None:
        """Write it down."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        (Path(self.folder) / "published").write_text(f"{policy.base}\n{policy.adapter}\n{policy.version}")
        self._count += 1
        mark = Path(self.folder) / "died"
        if self._count == self.dies_once_at and not mark.exists():
            mark.touch()
            os._exit(1)


@dataclass
class RefusingPool:
    """An engine that takes no policy, and notes every attempt."""

    folder: str

    def publish(self, policy: PolicyRef) -> None:
        """Refuse."""
        with (Path(self.folder) / "attempts").open("a") as file:
            file.write("x")
        raise TrainingError("the student refused the policy")
