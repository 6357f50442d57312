"""What computing a group's prompt once saves of a GRPO update: the same update with `shared_prefix` auto and off.

    python benchmarks/shared_prefix.py             # the micro configuration, on rollouts of the micro student
    python benchmarks/shared_prefix.py --grid      # a 4 x 256 Qwen2.5-VL over prompt, response and group lengths

One torch thread; the two forms take turns in one process, and a ratio is the median over these pairs of CPU seconds.
`ideal` is the ratio of tokens, G (P + R) / (P + G R), to which the picture tower adds where a model runs it per row.
About one minute on an idle core. The grid writes what it has after every cell.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import isqrt
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import common
import torch

from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.micro import sources
from dpe_ray.models.policy import LoadedPolicy, load_policy
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import Answer, AnswerKind, Completion, PolicyRef, Prompt, Rollout, RolloutGroup, Sample

FORMS = ("off", "auto")
MICRO = GrpoSettings(lr=5e-4, kl=0.02, prompts_per_step=16, max_tokens=40)
"""As jobs/micro.yaml."""
VOCABULARY, IMAGE = 2048, 2047
LENGTHS = {"P": (64, 279, 1067, 4096), "R": (32, 128, 512, 1024), "G": (4, 8, 16)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--pairs", type=int, default=0, help="12 for the micro configuration, 3 for a cell of the grid")
    parser.add_argument("--tokens", type=int, nargs=2, default=(1, 32_768), help="least and most G (P + R) of the grid")
    parser.add_argument("--out", default="", help="name of the results; made from the mode when left out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    name = args.out or ("shared_prefix_grid" if args.grid else "shared_prefix")
    cells = grid(args.pairs or 3, args.tokens, args.seed) if args.grid else [micro(args.pairs or 12, args.seed)]
    for row in cells:
        rows.append(row)
        print(" ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
        common.write(name, {"rows": rows})
    print(common.table(list(rows[0]), [list(row.values()) for row in rows]))


def micro(pairs: int, seed: int) -> dict[str, Any]:
    """Updates of jobs/micro.yaml: 16 prompts x 8 rollouts, an adapter, with the reference's pass."""
    with TemporaryDirectory() as folder:
        steps = micro_rollouts(Path(folder), 4, seed)
        student = PolicyRef(str(sources.student(Path(folder), seed)))
        trainers = []
        for form in FORMS:
            torch.manual_seed(seed)
            policy = load_policy(student, trainable="lora")
            trainers.append(GrpoTrainer(policy, replace(MICRO, shared_prefix=form)))
        seconds = [paired(trainers, steps[pair % len(steps)], flip=pair % 2 == 1) for pair in range(pairs + 1)][1:]
    rollouts = [rollout for step in steps for group in step for rollout in group.rollouts]
    mean_prompt = sum(len(group.prompt_ids) for step in steps for group in step) / sum(map(len, steps))
    mean_response = sum(len(rollout.completion.token_ids) for rollout in rollouts) / len(rollouts)
    return told(mean_prompt, mean_response, MICRO.group_size, seconds)


def grid(pairs: int, tokens: tuple[int, int], seed: int) -> Iterator[dict[str, Any]]:
    """Updates of every weight, one forward and backward per group, without a reference."""
    least, most = tokens
    for prompt, response, group in product(*LENGTHS.values()):
        if not least <= group * (prompt + response) <= most:
            continue
        groups = random_groups(prompt, response, group, max(1, min(8, 4096 // (group * (prompt + response)))), seed)
        settings = GrpoSettings(tuning="full", lr=1e-6, kl=0.0, micro_batch=len(groups) * group)
        trainers = [GrpoTrainer(qwen(prompt, seed), replace(settings, shared_prefix=form)) for form in FORMS]
        seconds = [paired(trainers, groups, flip=pair % 2 == 1) for pair in range(pairs + 1)][1:]
        yield told(prompt, response, group, seconds)


def paired(trainers: Sequence[GrpoTrainer], groups: Sequence[RolloutGroup], flip: bool) -> tuple[float, float]:
    """CPU seconds of one update in both forms; `flip` runs the second form first."""
    seconds = {}
    for form, trainer in reversed([*zip(FORMS, trainers, strict=True)]) if flip else zip(FORMS, trainers, strict=True):
        started = time.process_time()
        trainer.step(groups)
        seconds[form] = time.process_time() - started
    return seconds["off"], seconds["auto"]


def told(prompt: float, response: float, group: int, seconds: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """One row of the table."""
    ratios = [off / auto for off, auto in seconds]
    ideal = group * (prompt + response) / (prompt + group * response)
    return {
        "P": round(prompt, 1),
        "R": round(response, 1),
        "G": group,
        "off s": median(off for off, _ in seconds),
        "auto s": median(auto for _, auto in seconds),
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "ideal": ideal,
        "share of ideal": median(ratios) / ideal,
    }


def micro_rollouts(folder: Path, steps: int, seed: int) -> list[list[RolloutGroup]]:
    """Groups that the micro student sampled; random rewards, so that no group is dropped."""
    samples = list(read_samples(str(sources.support(folder, seed)), ImageStore(folder / "images")))
    random = Random(seed)
    random.shuffle(samples)
    size = MICRO.prompts_per_step
    engine = TransformersEngine(str(sources.student(folder, seed)), {"threads": 1})
    prompts = [answer_prompt(sample) for sample in samples[: steps * size]]
    groups = engine.rollout(
        prompts, group_size=MICRO.group_size, temperature=1.0, top_p=1.0, max_tokens=MICRO.max_tokens, seed=seed
    )
    groups = [
        replace(group, rollouts=tuple(replace(rollout, reward=random.random()) for rollout in group.rollouts))
        for group in groups
    ]
    return [groups[start : start + size] for start in range(0, len(groups), size)]


def random_groups(prompt: int, response: int, group: int, count: int, seed: int) -> list[RolloutGroup]:
    """Groups of exactly these lengths about one picture each, as `FixedProcessor` renders them."""
    random = Random(seed)
    ids = FixedProcessor(prompt, seed)("")["input_ids"][0].tolist()
    groups = []
    for index in range(count):
        text = f"question {index}"
        rollouts = tuple(
            Rollout(Completion("x", tokens, (-7.6,) * response), random.random(), {})
            for tokens in (tuple(random.randrange(2, IMAGE - 1) for _ in range(response)) for _ in range(group))
        )
        groups.append(
            RolloutGroup(Prompt(Sample((), text, Answer(AnswerKind.TEXT, "x")), text), rollouts, 0, tuple(ids))
        )
    return groups


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen2.5-VL; its tower has windows of 8 patches and looks at the whole picture in `whole` layers."""

    text: dict[str, Any]
    tower: dict[str, Any]
    sections: tuple[int, int, int]
    """Of half a head's rotary dimensions: time, height, width."""


SHAPES = {
    "tiny": Shape(
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": VOCABULARY},
        {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
         "patch_size": 8, "fullatt_block_indexes": [1]},
        (1, 1, 2),
    ),
    "small": Shape(
        {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8,
         "num_key_value_heads": 4, "vocab_size": VOCABULARY},
        {"depth": 4, "hidden_size": 128, "out_hidden_size": 256, "intermediate_size": 256, "num_heads": 4,
         "patch_size": 8, "fullatt_block_indexes": [3]},
        (4, 6, 6),
    ),
    "3b": Shape(  # Qwen/Qwen2.5-VL-3B-Instruct's config.json, with a head of its own
        {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
         "num_key_value_heads": 2, "vocab_size": 151_936},
        {"depth": 32, "hidden_size": 1280, "out_hidden_size": 2048, "intermediate_size": 3420, "num_heads": 16,
         "patch_size": 14, "fullatt_block_indexes": [7, 15, 23, 31]},
        (16, 24, 24),
    ),
}  # fmt: skip


class FixedProcessor:
    """Renders every prompt as one picture of random pixels and random words, `length` tokens in all."""

    tokenizer = SimpleNamespace(all_special_tokens=[], bos_token=None, pad_token_id=0, eos_token_id=1)

    def __init__(self, length: int, seed: int, patch: int = 8) -> None:
        generator = torch.Generator().manual_seed(seed)
        side = isqrt(length - 20)
        words = torch.randint(2, IMAGE - 1, (length - side * side,), generator=generator)
        ids = torch.cat([words[:10], torch.full((side * side,), IMAGE), words[10:]])[None]
        self._inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == IMAGE).int(),
            "pixel_values": torch.randn(4 * side * side, 3 * 2 * patch * patch, generator=generator),
            "image_grid_thw": torch.tensor([[1, 2 * side, 2 * side]]),
        }

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        """The prompt is what `__call__` gives."""
        return ""

    def __call__(self, text: str, **options: Any) -> dict[str, torch.Tensor]:
        """The same for every text, in tensors of its own."""
        return dict(self._inputs)


def qwen(prompt: int, seed: int, sizes: Shape = SHAPES["small"]) -> LoadedPolicy:
    """A Qwen2.5-VL of random weights, all trained, in torch's default dtype and on its default device."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed)
    patch = sizes.tower["patch_size"]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(sizes.sections)}
    config = Qwen2_5_VLConfig(
        text_config={**sizes.text, "rope_parameters": rope, "bos_token_id": None, "eos_token_id": None},
        vision_config={**sizes.tower, "window_size": 8 * patch},
        image_token_id=IMAGE,
        video_token_id=IMAGE - 1,
        vision_start_token_id=1,
        vision_end_token_id=1,
        tie_word_embeddings=False,
    )
    model = Qwen2_5_VLForConditionalGeneration(config).requires_grad_(True).eval()
    with torch.device("cpu"):
        return LoadedPolicy(model, FixedProcessor(prompt, seed, patch))


if __name__ == "__main__":
    main()
