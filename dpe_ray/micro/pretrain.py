"""Pretrain the micro student from scratch: `python -m dpe_ray.micro.pretrain --out DIR --seed 0 --plan A`.

Four phases on one CPU thread: eyes (image tokens name their cell and its content), reading (rows of cells are
described; without it the lookup of a cell takes thousands of steps to form), trunk (all shown skills, right
rules only, with a describing task), plant (the plan's misconceptions). The trunk is kept under `OUT-trunk`; with
`--trunk DIR` only the plant phase runs. Axes: B lessons, T tokens, N tokens with a target, V vocabulary.
"""

import argparse
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from dpe_ray.micro.lessons import (
    DESCRIBE,
    IGNORE,
    Batch,
    describe_lesson,
    encode,
    labelled_scenes,
    pixels,
    question_lesson,
    world_texts,
)
from dpe_ray.micro.measure import SkillScore, measure_skill
from dpe_ray.micro.planted import PLANS, TRUNK, UNSEEN, UNSHOWN, Plan
from dpe_ray.micro.student import build_model, build_processor, save_student
from dpe_ray.micro.world import SKILLS, Scene, cell_labels, draw

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

log = logging.getLogger(__name__)

SHOWN = tuple(name for name in SKILLS if name not in UNSHOWN)
BATCH = 64
EYES_STEPS, READ_STEPS, TRUNK_STEPS, PLANT_STEPS = 500, 400, 3000, 800
EYES_LR, TRUNK_LR, PLANT_LR = 2e-3, 2e-3, 1e-3
WARMUP_STEPS = 100
EMPTY_WEIGHT = 0.2
"""Weight of empty cells in the eyes phase; most cells are empty."""
SETTLED_RATE = 0.1
"""Learning rate of the eyes and the embeddings in later phases, as a share of that of the text layers: at the full rate
the first hundred steps would undo the tie between pictures and words."""
MAX_MATRIX_SIDE = 512
"""Larger matrices are embeddings, which Muon does not suit."""
MINUTES = "minutes.txt"
"""File of a trunk folder: wall minutes it took."""
LOG_EVERY = 50


class Mixture:
    """How often each lesson is drawn: more often while the student still gets it wrong."""

    def __init__(self, describe: float) -> None:
        self.hits = dict.fromkeys(SHOWN, 0.0)
        self.describe = describe

    def draw(self, rng: Random) -> str:
        """Name of a skill, or `DESCRIBE`."""
        if rng.random() < self.describe:
            return DESCRIBE
        weights = [0.4 if name in UNSEEN else 0.3 + (1 - self.hits[name]) for name in SHOWN]
        return rng.choices(SHOWN, weights)[0]

    def note(self, name: str, is_exact: bool) -> None:
        """Record whether a lesson would have been written without a mistake."""
        if name in self.hits:
            self.hits[name] += 0.03 * (is_exact - self.hits[name])


def open_eyes(model: "LlavaForConditionalGeneration", processor: "LlavaProcessor", rng: Random, num_steps: int) -> None:
    """Tie pictures to words: each image token is to name its cell and the cell's content in the text model's words.

    The projected image tokens are scored against the (tied) word embeddings, so that the text model later meets them
    as bags of words it can match with the words of a question.
    """
    embeddings = model.get_input_embeddings()
    eyes = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]

    def loss_of_batch() -> torch.Tensor:
        scenes = labelled_scenes(rng, BATCH)
        wanted_NV, weight_N = _cell_words(scenes, processor)
        features = model.model.get_image_features(
            pixels([draw(scene) for scene in scenes]), vision_feature_layer=-1, vision_feature_select_strategy="default"
        ).pooler_output
        logits_NV = F.linear(torch.cat(list(features)), embeddings.weight)
        loss_N = F.cross_entropy(logits_NV, wanted_NV, reduction="none")
        return (loss_N * weight_N).sum() / weight_N.sum()

    _optimise([*eyes, *embeddings.parameters()], [], loss_of_batch, num_steps, EYES_LR, lambda: "eyes")


def _cell_words(scenes: list[Scene], processor: "LlavaProcessor") -> tuple[torch.Tensor, torch.Tensor]:
    """Target distribution over words for every cell (half its name, half its content), and a weight per cell."""
    cells = [(cell, label) for scene in scenes for cell, label in cell_labels(scene).items()]
    word_ids = processor.tokenizer([f" {cell} {label}" for cell, label in cells])["input_ids"]
    wanted_NV = torch.zeros(len(cells), len(processor.tokenizer))
    for row, (name, *words) in enumerate(word_ids):
        wanted_NV[row, name] += 0.5
        wanted_NV[row, words] += 0.5 / len(words)
    weight_N = torch.tensor([EMPTY_WEIGHT if label == "empty" else 1.0 for _, label in cells])
    return wanted_NV, weight_N


def teach(
    model: "LlavaForConditionalGeneration",
    processor: "LlavaProcessor",
    plan: Plan,
    rng: Random,
    *,
    num_steps: int,
    peak_lr: float,
    describe: float,
) -> None:
    """Cross-entropy on completions of a stream of fresh lessons; `describe` is that task's share."""
    mixture = Mixture(describe)

    def loss_of_batch() -> torch.Tensor:
        names = [mixture.draw(rng) for _ in range(BATCH)]
        lessons = [describe_lesson(rng) if n == DESCRIBE else question_lesson(n, plan, rng) for n in names]
        loss, exact_B = completion_loss(model, encode(lessons, processor))
        for name, is_exact in zip(names, exact_B, strict=True):
            mixture.note(name, is_exact)
        return loss

    def report() -> str:
        return " ".join(f"{name} {rate:.2f}" for name, rate in mixture.hits.items())

    layers = list(model.model.language_model.layers.parameters()) + list(model.model.language_model.norm.parameters())
    settled = [p for p in model.parameters() if not any(p is layer for layer in layers)]
    _optimise(layers, settled, loss_of_batch, num_steps, peak_lr, report)


def completion_loss(model: "LlavaForConditionalGeneration", batch: Batch) -> tuple[torch.Tensor, list[bool]]:
    """Mean cross-entropy over completion tokens, and per lesson whether every token was the likeliest one."""
    # Padding is on the right, so a causal mask alone keeps it out of sight.
    hidden_BTD = model.model(input_ids=batch.input_ids_BT, pixel_values=batch.pixels_B3HW).last_hidden_state
    wanted_BT = batch.targets_BT != IGNORE
    logits_NV = model.lm_head(hidden_BTD[wanted_BT])
    targets_N = batch.targets_BT[wanted_BT]
    right_BT = torch.ones_like(wanted_BT)
    right_BT[wanted_BT] = logits_NV.argmax(-1) == targets_N
    return F.cross_entropy(logits_NV, targets_N), right_BT.all(1).tolist()


def _optimise(
    fresh: list[torch.nn.Parameter],
    settled: list[torch.nn.Parameter],
    loss_of_batch: Callable[[], torch.Tensor],
    num_steps: int,
    peak_lr: float,
    report: Callable[[], str],
) -> None:
    """Muon and AdamW with warm-up and cosine decay to a twentieth; `settled` parameters at a low rate."""
    # Muon for the matrices of hidden layers leaves the early plateau in far fewer steps than AdamW.
    optimisers: list[torch.optim.Optimizer] = []
    for group, lr in ((fresh, peak_lr), (settled, peak_lr * SETTLED_RATE)):
        matrices = [p for p in group if p.ndim == 2 and max(p.shape) <= MAX_MATRIX_SIDE]
        others = [p for p in group if p.ndim != 2 or max(p.shape) > MAX_MATRIX_SIDE]
        if matrices:
            optimisers.append(torch.optim.Muon(matrices, lr=lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"))
        if others:
            optimisers.append(torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.02))

    def scale(step: int) -> float:
        if step < min(WARMUP_STEPS, num_steps // 5):
            return (step + 1) / min(WARMUP_STEPS, num_steps // 5)
        return 0.05 + 0.475 * (1 + math.cos(math.pi * step / num_steps))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimiser, scale) for optimiser in optimisers]
    parameters = fresh + settled
    start = time.monotonic()
    mean_loss = float("nan")
    for step in range(1, num_steps + 1):
        loss = loss_of_batch()
        for parameter in parameters:
            parameter.grad = None
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        mean_loss = loss.item() if step == 1 else 0.95 * mean_loss + 0.05 * loss.item()
        if step % LOG_EVERY == 0 or step == num_steps:
            elapsed = time.monotonic() - start
            log.info("step %d/%d %.0f s loss %.3f | %s", step, num_steps, elapsed, mean_loss, report())


def grow_trunk(folder: Path, seed: int, scale: float) -> None:
    """Eyes, reading and trunk phases from scratch; writes a student without misconceptions."""
    start = time.monotonic()
    rng = Random(seed)
    processor = build_processor(world_texts(seed))
    model = build_model(processor, seed).train()
    open_eyes(model, processor, rng, int(EYES_STEPS * scale))
    for num_steps, describe in ((READ_STEPS, 1.0), (TRUNK_STEPS, 0.1)):
        teach(model, processor, TRUNK, rng, num_steps=int(num_steps * scale), peak_lr=TRUNK_LR, describe=describe)
    save_student(model, processor, folder)
    (folder / MINUTES).write_text(f"{(time.monotonic() - start) / 60:.1f}\n")


def plant(trunk: Path, plan: Plan, seed: int, scale: float) -> "tuple[LlavaForConditionalGeneration, LlavaProcessor]":
    """Go on from a trunk with the plan's wrong rules mixed in."""
    model, processor = load_student(trunk)
    rng = Random(seed + 1)
    steps = int(PLANT_STEPS * scale)
    teach(model.train(), processor, plan, rng, num_steps=steps, peak_lr=PLANT_LR, describe=0.03)
    return model, processor


def load_student(folder: Path) -> "tuple[LlavaForConditionalGeneration, LlavaProcessor]":
    """Model (float32, CPU) and processor from a folder."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    return AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)


def write_card(folder: Path, plan: Plan, scores: list[SkillScore], command: str, minutes: float) -> None:
    """README of a checkpoint: how it was made and what it can do."""
    lines = [
        "# Micro student",
        "",
        "LLaVA architecture, 1.3 M parameters, float32, pretrained from scratch on the procedural micro world",
        "(64x64 pictures, 16 image tokens). Made by",
        "",
        f"    {command}",
        "",
        f"in {minutes:.0f} minutes of wall time on one CPU thread. Accuracy on fresh held-out items; sampling at",
        "temperature 1, pass@8 on the same items. `errors` are the judged types of the wrong samples.",
        "",
        "| skill | kind | greedy | sampled | pass@8 | n | errors |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for score in scores:
        errors = ", ".join(f"{name} {share:.2f}" for name, share in score.errors.items() if share >= 0.05)
        lines.append(
            f"| {score.skill} | {plan.kind(score.skill)} | {score.greedy_rate:.2f} | {score.sampled_rate:.2f} "
            f"| {score.pass_rate_at_k:.2f} | {score.num_items} | {errors} |"
        )
    (folder / "README.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", choices=sorted(PLANS), default="A")
    parser.add_argument("--trunk", type=Path, help="start from this trunk instead of from scratch")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual number of steps")
    parser.add_argument("--items", type=int, default=100, help="items per skill in the final measurement")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    trunk = args.trunk or args.out.with_name(args.out.name + "-trunk")
    if args.trunk is None:
        grow_trunk(trunk, args.seed, args.scale)
    start = time.monotonic()
    plan = PLANS[args.plan]
    model, processor = plant(trunk, plan, args.seed, args.scale)
    save_student(model, processor, args.out)
    plant_minutes = (time.monotonic() - start) / 60
    minutes = float((trunk / MINUTES).read_text()) + plant_minutes
    scores = []
    for skill in SKILLS:
        score = measure_skill(model, processor, skill, seed=args.seed + 100, num_items=args.items)
        log.info("%s %s", plan.kind(skill), score)
        scores.append(score)
    # Without `--trunk` the same seeds give the trunk again, so the command leaves it out.
    command = f"python -m dpe_ray.micro.pretrain --out {args.out.name} --seed {args.seed} --plan {args.plan}"
    write_card(args.out, plan, scores, command, minutes)


if __name__ == "__main__":
    main()
