"""Lessons for pretraining the micro student: pictures with a prompt and a completion, made on the fly from a seed.

Axes: B lessons, T tokens, C cells (16, reading order).
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dpe_ray.micro.planted import Plan
from dpe_ray.micro.student import END, IMAGE, PROMPT_SUFFIX, render_prompt
from dpe_ray.micro.world import (
    CATEGORIES,
    CATEGORY_OF,
    Scene,
    ask,
    cell_labels,
    draw,
    make_scene,
    skills_for,
    wrong_item,
)

if TYPE_CHECKING:
    from transformers import LlavaProcessor

NUM_IMAGE_TOKENS = 16
DESCRIBE = "describe"
"""Name of the lesson that lists what lies in a row of cells."""
IGNORE = -100
"""Target of tokens that carry no loss."""


class Lesson(NamedTuple):
    """One picture with what to say about it."""

    skill: str
    picture: Image.Image
    prompt: str
    completion: str


class Batch(NamedTuple):
    """Tensors of lessons, padded on the right."""

    input_ids_BT: torch.Tensor
    targets_BT: torch.Tensor
    """Token expected at each place; `IGNORE` in prompts and padding."""
    pixels_B3HW: torch.Tensor


def question_lesson(skill: str, plan: Plan, rng: Random) -> Lesson:
    """Ask a question of a skill, answered right or by the plan's wrong rule."""
    scene = make_scene(CATEGORY_OF[skill], rng.randint(1, 3), rng)
    item = ask(scene, skill, rng)
    if rng.random() < plan.wrong_rate(skill, item.phrasing):
        item = wrong_item(scene, item, plan.misconceptions[skill]) or item
    return Lesson(skill, draw(scene), render_prompt(item.question, item.options), item.completion())


def describe_lesson(rng: Random) -> Lesson:
    """Describe a row of cells one by one; teaches words for what the eyes tell apart."""
    scene = make_scene(rng.choice(list(CATEGORIES)), rng.randint(1, 3), rng)
    row = rng.choice("1234")
    seen = [f"{cell} {label}" for cell, label in cell_labels(scene).items() if cell[1] == row]
    return Lesson(DESCRIBE, draw(scene), f"Describe row {row}.", "row " + " ".join(seen))


def labelled_scenes(rng: Random, num: int) -> list[Scene]:
    """Scenes of random categories and levels."""
    return [make_scene(rng.choice(list(CATEGORIES)), rng.randint(1, 3), rng) for _ in range(num)]


def world_texts(seed: int, num: int = 150) -> Iterator[str]:
    """Every kind of text of the world, to build the vocabulary from."""
    rng = Random(seed)
    for category in CATEGORIES:
        for turn in range(num):
            scene = make_scene(category, turn % 3 + 1, rng)
            yield from (f"row {cell} {label}" for cell, label in cell_labels(scene).items())
            for skill in skills_for(category):
                item = ask(scene, skill, rng)
                yield render_prompt(item.question, item.options).removesuffix(PROMPT_SUFFIX)
                yield item.completion()
    yield from (f"Describe row {row}." for row in "1234")


def pixels(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures as the processor gives them: (B, 3, 64, 64), scaled to -2..2."""
    array: NDArray[np.float32] = np.stack([np.asarray(picture, dtype=np.float32) for picture in pictures])
    return torch.from_numpy((array / 255.0 - 0.5) / 0.25).permute(0, 3, 1, 2).contiguous()


def encode(lessons: Sequence[Lesson], processor: "LlavaProcessor") -> Batch:
    """Tokens, targets and pixels of lessons, as the chat template renders them."""
    tokenizer = processor.tokenizer
    heads = [f"<|user|>{IMAGE * NUM_IMAGE_TOKENS}{lesson.prompt}{END}<|assistant|>" for lesson in lessons]
    tails = [lesson.completion + END for lesson in lessons]
    prompts, completions = tokenizer(heads)["input_ids"], tokenizer(tails)["input_ids"]
    width = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    input_ids_BT = torch.full((len(lessons), width), tokenizer.pad_token_id)
    targets_BT = torch.full((len(lessons), width), IGNORE)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        start, stop = len(prompt), len(prompt) + len(completion)
        input_ids_BT[row, :stop] = torch.tensor(prompt + completion)
        # The token at place t predicts the one at t + 1.
        targets_BT[row, start - 1 : stop - 1] = torch.tensor(completion)
    return Batch(input_ids_BT, targets_BT, pixels([lesson.picture for lesson in lessons]))
