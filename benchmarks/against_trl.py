"""A GRPO step of ours beside one of TRL's GRPOTrainer: one model, the same prompts, lengths, batches and optimiser.

    python benchmarks/against_trl.py               # 279 and 1,067 prompt tokens, 64 sampled ones, groups of 8

A 4 x 256 Qwen2.5-VL of random weights, float32, all weights trained, one torch thread. Both sample exactly the same
number of tokens from their own weights; rewards are random numbers. The steps take turns in one process, ours between
two of TRL's; a ratio is the median over these pairs of CPU seconds. `update` is all but sampling and scoring. Prompts
and pictures are rendered beforehand for both: TRL would render a picture once per completion.
`bytes` is what tensors take at the peak of one more update, above weights, gradients and optimiser state.
"""

import argparse
import copy
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import common
import torch
from shared_prefix import IMAGE, SHAPES, FixedProcessor, qwen, random_groups
from torch.profiler import ProfilerActivity, profile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
from datasets import Dataset
from transformers import ProcessorMixin, TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from dpe_ray.micro.student import build_tokenizer
from dpe_ray.models.decoding import Job, decode
from dpe_ray.models.policy import LoadedPolicy, render
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import Rollout, RolloutGroup

PROMPTS, SAMPLED, GROUP, GROUPS = (279, 1067), 64, 8, 4
Seconds = dict[str, float]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS, help="tokens, the picture's included")
    parser.add_argument("--sampled", type=int, default=SAMPLED, help="tokens per completion")
    parser.add_argument("--group", type=int, default=GROUP)
    parser.add_argument("--groups", type=int, default=GROUPS, help="per step")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for prompt in args.prompts:
        setting = Setting(prompt, args.sampled, args.group, args.groups, args.pairs, args.seed)
        with TemporaryDirectory() as folder:
            rows.append(Race(setting, folder).told())
        print(rows[-1], flush=True)
        common.write("against_trl", {"trl": trl_options(setting), "rows": rows})
    print(common.table(list(rows[0]), [list(row.values()) for row in rows]))


@dataclass(frozen=True)
class Setting:
    """What is trained on, and where."""

    prompt: int
    """Tokens, those of one picture included."""
    sampled: int
    """Tokens of a completion."""
    group: int
    groups: int
    """Prompts per step; one group per forward pass."""
    pairs: int
    """Steps that count; one before warms up."""
    seed: int = 0
    shape: str = "small"
    device: str = "cpu"
    checkpointing: bool = False

    def now(self) -> float:
        """Seconds: of the CPU, or by the clock when a GPU has done what it was asked."""
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


class Race:
    """Both trainers on copies of one model; runs when it is made."""

    def __init__(self, setting: Setting, folder: str) -> None:
        self._setting = setting
        policy = qwen(setting.prompt, setting.seed, SHAPES[setting.shape])
        self._ours = Ours(copy.deepcopy(policy), setting)
        self._pairs: list[tuple[Seconds, Seconds]] = []
        self._trl = trl_trainer(policy.model, folder, setting)
        self._trl.add_callback(Watch(self._trl, setting, self._take_turns))
        self._trl.train()
        self._bytes = self._peaks()

    def _take_turns(self, theirs: Seconds) -> None:
        self._pairs.append((self._ours.step(), theirs))

    def _peaks(self) -> tuple[int, int]:
        """Of one update each: ours, TRL's."""
        trainer: Any = self._trl
        inputs: list[Any] = trainer._buffered_inputs

        def theirs() -> None:
            for batch in inputs:
                loss = trainer._compute_loss(trainer.model, batch)
                (loss / len(inputs)).backward()
            trainer.model.zero_grad()

        weights = sum(weight.nbytes for weight in self._trl.model.parameters())  # gradients are as large
        return peak_bytes(self._ours.update) - weights, peak_bytes(theirs) - weights

    def told(self) -> dict[str, Any]:
        """One row of the table; the first pair warms up."""
        pairs, (ours, theirs) = self._pairs[1:], self._bytes
        row: dict[str, Any] = {"P": self._setting.prompt, "R": self._setting.sampled, "G": self._setting.group}
        for part in ("update", "step"):
            ratios = [theirs[part] / ours[part] for ours, theirs in pairs]
            row |= {
                f"{part} s": round(median(ours[part] for ours, _ in pairs), 3),
                f"TRL {part} s": round(median(theirs[part] for _, theirs in pairs), 3),
                f"{part} ratio": round(median(ratios), 2),
                f"{part} lowest": round(min(ratios), 2),
                f"{part} highest": round(max(ratios), 2),
            }
        return row | {"MB": round(ours / 1e6, 1), "TRL MB": round(theirs / 1e6, 1), "share": round(ours / theirs, 3)}


class Ours:
    """Our engine's decoding and our trainer on one model in memory."""

    def __init__(self, policy: LoadedPolicy, setting: Setting, shared_prefix: str = "auto") -> None:
        self._policy, self._setting, self._chance = policy, setting, random.Random(setting.seed)
        policy.model.generation_config.eos_token_id = None  # exactly so many tokens
        settings = GrpoSettings(
            tuning="full",
            lr=1e-6,
            kl=0.0,
            std_eps=1e-4,
            micro_batch=setting.group,
            max_tokens=setting.sampled,
            gradient_checkpointing=setting.checkpointing,
            shared_prefix=shared_prefix,
            device=setting.device,
        )
        self._trainer = GrpoTrainer(policy, settings)
        self._groups: Sequence[RolloutGroup] = random_groups(
            setting.prompt, setting.sampled, setting.group, setting.groups, setting.seed
        )
        self._prompts = [group.prompt for group in self._groups]
        self.metrics: dict[str, float] = {}
        """Of the last update."""

    def step(self) -> Seconds:
        """Seconds of sampling and update."""
        started = self._setting.now()
        self._groups = self._sampled()
        sampled = self._setting.now()
        self.update()
        ended = self._setting.now()
        return {"update": ended - sampled, "step": ended - started}

    def update(self) -> None:
        """One optimiser update from the last rollouts."""
        self.metrics = self._trainer.step(self._groups)

    def _sampled(self) -> list[RolloutGroup]:
        size, tokens = self._setting.group, self._setting.sampled
        jobs = [
            Job(render(self._policy.processor, p.text, []), size, 1.0, 1.0, tokens, self._chance.randrange(2**31))
            for p in self._prompts
        ]
        with self._cached():
            written = decode(self._policy.model, TOKENIZER, jobs)
        ids = tuple(jobs[0].inputs["input_ids"][0].tolist())
        return [
            RolloutGroup(prompt, tuple(Rollout(c, self._chance.random()) for c in completions), 0, ids)
            for prompt, completions in zip(self._prompts, written, strict=True)
        ]

    @contextmanager
    def _cached(self) -> Iterator[None]:
        """Sampling needs a cache, which layers that compute again do not fill. A run has its own engine for it."""
        layers = [layer for layer in self._policy.model.modules() if isinstance(layer, GradientCheckpointingLayer)]
        modes = [layer.training for layer in layers]
        for layer in layers:
            layer.training = False
        yield
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode


class Watch(TrainerCallback):
    """Seconds of TRL's steps, and a turn of the other side behind each."""

    def __init__(self, trainer: GRPOTrainer, setting: Setting, turn: Callable[[Seconds], None]) -> None:
        self._now, self._turn, self._sampling, self._started = setting.now, turn, 0.0, 0.0
        sample = trainer._generate_and_score_completions

        def timed(inputs: Any) -> Any:
            started = self._now()
            outputs = sample(inputs)
            self._sampling += self._now() - started
            return outputs

        trainer._generate_and_score_completions = timed

    def on_step_begin(self, *told: Any, **more: Any) -> None:
        """Start the clock."""
        self._started, self._sampling = self._now(), 0.0

    def on_step_end(self, *told: Any, **more: Any) -> None:
        """Stop it, and let the other side go."""
        step = self._now() - self._started
        self._turn({"update": step - self._sampling, "step": step})


TOKENIZER = build_tokenizer([f" word{number}" for number in range(IMAGE)])
"""Its end token is never sampled: TRL is told so, and ours stops at none."""


class GivenProcessor(ProcessorMixin):
    """A processor as TRL wants it that gives what `FixedProcessor` rendered, for as many prompts as are asked."""

    def __init__(self, setting: Setting) -> None:
        self.tokenizer = copy.deepcopy(TOKENIZER)
        self._inputs = FixedProcessor(setting.prompt, setting.seed, SHAPES[setting.shape].tower["patch_size"])("")

    def apply_chat_template(self, conversation: Any, *, tokenize: bool = False, **options: Any) -> Any:
        """Lists of tokens, and the pictures' tensors behind each other."""
        if not tokenize:
            return "prompt"
        return self._rows(len(conversation), as_lists=True)

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> Any:
        """As `apply_chat_template`, in tensors."""
        return self._rows(len(text), as_lists=False)

    def batch_decode(self, *tokens: Any, **options: Any) -> list[str]:
        """As the tokenizer."""
        texts: list[str] = self.tokenizer.batch_decode(*tokens, **options)
        return texts

    def _rows(self, count: int, as_lists: bool) -> dict[str, Any]:
        rows: dict[str, Any] = {key: torch.cat([value] * count) for key, value in self._inputs.items()}
        for key in ("input_ids", "attention_mask", "mm_token_type_ids") if as_lists else ():
            rows[key] = rows[key].tolist()
        return rows


def trl_trainer(model: Any, folder: str, setting: Setting) -> GRPOTrainer:
    """TRL with a reward that costs nothing, and nothing written or told."""
    chance = random.Random(setting.seed)
    blank = {"type": "image", "image": None}
    prompt = [{"role": "user", "content": [blank, {"type": "text", "text": "question"}]}]
    return GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **columns: [chance.random() for _ in completions],
        args=GRPOConfig(output_dir=folder, **trl_options(setting)),
        train_dataset=Dataset.from_dict({"prompt": [prompt] * setting.groups * (setting.pairs + 1)}),
        processing_class=GivenProcessor(setting),
    )


def trl_options(setting: Setting) -> dict[str, Any]:
    """What TRL is told: our defaults, and nothing that costs it time."""
    return {
        "max_steps": setting.pairs + 1,
        "per_device_train_batch_size": setting.group,
        "gradient_accumulation_steps": setting.groups,
        "num_generations": setting.group,
        "max_completion_length": setting.sampled,
        "generation_kwargs": {"min_new_tokens": setting.sampled, "suppress_tokens": [IMAGE - 1, IMAGE]},
        "learning_rate": 1e-6,
        "weight_decay": 1e-2,
        "lr_scheduler_type": "constant",
        "loss_type": "grpo",
        "beta": 0.0,
        "epsilon_high": 0.3,
        "delta": 3.0,
        "gradient_checkpointing": setting.checkpointing,
        "bf16": False,  # of the weights' own number format, as ours
        "use_cpu": setting.device == "cpu",
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": setting.seed,
    }


def peak_bytes(work: Callable[[], None]) -> int:
    """Most bytes of tensors that are alive at once while it runs, above those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = profiler.profiler.kineto_results.events()
    alive = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


if __name__ == "__main__":
    main()
