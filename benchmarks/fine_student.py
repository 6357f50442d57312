"""A micro student that works in fine steps: tuned from the shipped one on lessons of its world, and measured.

The shipped checkpoint writes three short steps. This one is made by the project's own supervised trainer, on pictures
and questions from seeds that no set of the micro world is drawn from, and lives in a folder outside the package. Only
the skills of `SKILLS` are taught: they take five to fifteen steps.
"""

import io
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean

import torch

from dpe_ray.diagnose.mistakes.steps import split_steps
from dpe_ray.grading.rules import grade
from dpe_ray.micro.sources import student
from dpe_ray.micro.world import CATEGORY_OF, ask, draw, make_scene
from dpe_ray.micro.world.fine_steps import FINE_CUE, Told, retell, tell
from dpe_ray.pool.images import ImageStore
from dpe_ray.ports import RolloutPool
from dpe_ray.train.methods import finetune
from dpe_ray.train.settings import SftSettings
from dpe_ray.types import Answer, AnswerKind, PolicyRef, Prompt, RolloutGroup, Sample

SKILLS = (
    "bar_difference", "formula_value", "row_extreme", "row_colour", "beside_object", "two_steps", "count_shape",
    "count_things", "side_of", "landmark_distance", "extreme_bar",
)  # fmt: skip
LESSONS = 9_900
FEWEST_STEPS = 5
SETTINGS = SftSettings(
    lora_rank=64, lora_alpha=128, lr=2e-3, batch_size=32, micro_batch=32, save_every=10_000, rationale_share=0.0
)
"""An adapter on the language model: tuned in full at this rate, the student forgets how to see."""


@dataclass(frozen=True)
class Task:
    """An item with the prompt that asks for fine steps, and what only the benchmark knows about it."""

    skill: str
    prompt: Prompt
    right: Told


class NoRollouts(RolloutPool):
    """Stands where a trainer may sample: lessons carry their rationales, so nothing is asked of it."""

    def rollout(self, prompts: Sequence[Prompt], **settings: object) -> list[RolloutGroup]:
        """Refuse. Raises NotImplementedError."""
        raise NotImplementedError("lessons carry their rationales")

    def publish(self, policy: PolicyRef) -> None:
        """Refuse. Raises NotImplementedError."""
        raise NotImplementedError("lessons carry their rationales")


def tasks(seed: str, num: int, store: ImageStore, *, split: str, taken: Set[str] = frozenset()) -> Iterator[Task]:
    """Items of all skills in turn, on scenes of random difficulty; no picture twice, and none that is taken."""
    rng, seen = Random(seed), set(taken)
    for number in range(num):
        skill = SKILLS[number % len(SKILLS)]
        while True:
            scene = make_scene(CATEGORY_OF[skill], rng.randint(1, 3), rng, split=split)
            png = io.BytesIO()
            draw(scene).save(png, "PNG", compress_level=1)
            picture = store.put(png.getvalue())
            if picture.sha256 not in seen:
                break
        seen.add(picture.sha256)
        item = ask(scene, skill, rng)
        right = tell(item, scene)
        answer = Answer(AnswerKind(item.kind), item.answer)
        rationale = right.completion(item.answer).rpartition("\n")[0]
        sample = Sample((picture,), item.question, answer, item.options, rationale, CATEGORY_OF[skill])
        yield Task(skill, Prompt(sample, fine_text(sample)), right)


def fresh_tasks(folder: Path, seed: int, num: int) -> list[Task]:
    """Items on pictures that the student of this folder and seed has not learned from."""
    lessons = {file.name for file in (folder / "lessons").iterdir()}
    return list(tasks(f"fresh {seed}", num, ImageStore(folder / "fresh"), split="heldout", taken=lessons))


def fine_text(sample: Sample) -> str:
    """What the student is asked: the question, lettered options, and the wish for fine steps."""
    lettered = [f"({letter}) {option}" for letter, option in zip(sample.letters, sample.options, strict=True)]
    return "\n".join([sample.question, *lettered, FINE_CUE])


def make_student(folder: Path, seed: int, lessons: int = LESSONS) -> dict[str, float]:
    """Tune the shipped student, unless the folder holds this seed's; returns how it was made. Policy at `policy_of`."""
    policy = policy_of(folder, seed)
    card = Path(policy.adapter) / "made.json"
    if not card.exists():
        torch.set_num_threads(1)
        wall, cpu = time.monotonic(), time.process_time()
        store = ImageStore(folder / "lessons")
        prompts = [task.prompt for task in tasks(f"fine lessons {seed}", lessons, store, split="train")]
        start = PolicyRef(policy.base)
        result = finetune(start, prompts, NoRollouts(), SETTINGS, out=policy.adapter, seed=seed, on_step=_progress)
        made = {
            "lessons": len(prompts), "updates": result.steps, "last_loss": result.metrics[-1]["loss"],
            "wall_minutes": (time.monotonic() - wall) / 60, "cpu_minutes": (time.process_time() - cpu) / 60,
        }  # fmt: skip
        card.write_text(json.dumps(made))
    return dict(json.loads(card.read_text()))


def policy_of(folder: Path, seed: int) -> PolicyRef:
    """The student of a seed: the shipped one with an adapter in the folder."""
    return PolicyRef(str(student(folder, seed)), adapter=str(folder / f"fine-student-{seed}"), version=1)


def writing(asked: Sequence[Task], texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """How well rationales are written, by skill and over all.

    valid: five steps or more whose working follows from the facts that they state, and ends at the answer given;
    true_steps: share of the steps that stand in the right rationale too; right: answers.
    """
    rows = defaultdict(list)
    for task, text in zip(asked, texts, strict=True):
        steps = [step.text for step in split_steps(text)]
        row = {
            "steps": len(steps),
            "valid": followed(task, text) is not None and len(steps) >= FEWEST_STEPS,
            "true_steps": fmean([step in task.right.steps for step in steps] or [0]),
            "right": grade(task.prompt.sample, text).correct,
        }
        for name in (task.skill, "all"):
            rows[name].append(row)
    keys = ("steps", "valid", "true_steps", "right")
    return {
        name: {"n": len(rows[name]), **{key: fmean(row[key] for row in rows[name]) for key in keys}}
        for name in (*SKILLS, "all")
        if name in rows
    }


def followed(task: Task, text: str) -> Told | None:
    """The rationale in a text, told again from its own facts; None where it does not work out to its own answer."""
    try:
        told = retell(task.prompt.sample.question, [step.text for step in split_steps(text)])
    except ValueError:
        return None
    return told if text.endswith(f"answer: {told.value}") else None


def _progress(step: int, metrics: dict[str, float], _: object) -> None:
    if step % 20 == 0:
        print(f"update {step}: loss {metrics['loss']:.3f}", flush=True)
