"""Accuracy of a micro student per skill: greedy, sampled, pass@k, and what its mistakes look like."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import torch

from dpe_ray.micro.lessons import NUM_IMAGE_TOKENS, pixels
from dpe_ray.micro.student import END, IMAGE, render_prompt
from dpe_ray.micro.world import CATEGORY_OF, Item, Scene, ask, draw, error_type, final_answer, make_scene

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

MAX_NEW_TOKENS = 40
CHUNK = 256
"""Completions decoded at once."""


@dataclass(frozen=True)
class SkillScore:
    """What a student does on fresh items of one skill; rates are 0-1."""

    skill: str
    num_items: int
    greedy_rate: float
    """Greedy answers that are right."""
    sampled_rate: float
    """Answers sampled at temperature 1 that are right."""
    pass_rate_at_k: float
    """Items with at least one right answer in k samples."""
    errors: dict[str, float]
    """Share of each error type among the wrong sampled answers."""


def measure_skill(
    model: "LlavaForConditionalGeneration",
    processor: "LlavaProcessor",
    skill: str,
    *,
    seed: int,
    num_items: int = 100,
    num_samples: int = 8,
) -> SkillScore:
    """Score held-out items of one skill; costs num_items x (1 + num_samples) short generations."""
    rng = Random(f"{seed} {skill}")
    scenes = [make_scene(CATEGORY_OF[skill], i % 3 + 1, rng, split="heldout") for i in range(num_items)]
    asked = [(scene, ask(scene, skill, rng)) for scene in scenes]
    torch.manual_seed(seed)
    greedy = generate(model, processor, asked, num_samples=1, temperature=0.0)
    sampled = generate(model, processor, asked, num_samples=num_samples, temperature=1.0)
    hits = [[_is_right(item, text) for text in texts] for (_, item), texts in zip(asked, sampled, strict=True)]
    wrong = Counter(
        error_type(scene, item.question, text, item.options).error
        for (scene, item), texts in zip(asked, sampled, strict=True)
        for text in texts
        if not _is_right(item, text)
    )
    return SkillScore(
        skill=skill,
        num_items=num_items,
        greedy_rate=sum(_is_right(item, texts[0]) for (_, item), texts in zip(asked, greedy, strict=True)) / num_items,
        sampled_rate=sum(map(sum, hits)) / (num_items * num_samples),
        pass_rate_at_k=sum(map(any, hits)) / num_items,
        errors={name: count / wrong.total() for name, count in wrong.most_common()},
    )


@torch.no_grad()
def generate(
    model: "LlavaForConditionalGeneration",
    processor: "LlavaProcessor",
    asked: Sequence[tuple[Scene, Item]],
    *,
    num_samples: int,
    temperature: float,
) -> list[list[str]]:
    """Completions per item; temperature 0 is greedy."""
    model.eval()
    texts: list[str] = []
    rows = [row for row in asked for _ in range(num_samples)]
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        prompts = [
            f"<|user|>{IMAGE * NUM_IMAGE_TOKENS}{render_prompt(item.question, item.options)}{END}<|assistant|>"
            for _, item in chunk
        ]
        inputs = processor.tokenizer(prompts, padding=True, return_tensors="pt")
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            pixel_values=pixels([draw(scene) for scene, _ in chunk]),
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=temperature > 0,
            **({"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {}),
        )
        completions = output[:, inputs["input_ids"].shape[1] :]
        texts += processor.tokenizer.batch_decode(completions, skip_special_tokens=True)
    return [texts[i : i + num_samples] for i in range(0, len(texts), num_samples)]


def _is_right(item: Item, text: str) -> bool:
    return final_answer(text) == item.answer.lower()
