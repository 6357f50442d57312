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
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import common
import torch
from shared_prefix import IMAGE, FixedProcessor, qwen, random_groups
from torch.profiler import ProfilerActivity, profile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
from datasets import Dataset
from transformers import ProcessorMixin, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

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
        with TemporaryDirectory() as folder:
            race = Race(prompt, args, folder)
            rows.append(race.told())
            print(rows[-1], flush=True)
            common.write("against_trl", {"trl": trl_options(args), "rows": rows})
    print(common.table(list(rows[0]), [list(row.values()) for row in rows]))


class Race:
    """Both trainers on copies of one model; runs when it is made."""

    def __init__(self, prompt: int, args: argparse.Namespace, folder: str) -> None:
        self._prompt, self._args = prompt, args
        policy = qwen(prompt, args.seed)
        self._ours = Ours(copy.deepcopy(policy), args)
        self._processor = GivenProcessor(prompt, args.seed)
        self._pairs: list[tuple[Seconds, Seconds]] = []
        self._trl = trl_trainer(policy.model, self._processor, folder, args)
        self._watch = Watch(self._trl, self._take_turns)
        self._trl.add_callback(self._watch)
        self._trl.train()
        self._bytes = self._peaks()

    def _take_turns(self, theirs: Seconds) -> None:
        self._pairs.append((self._ours.step(), theirs))

    def _peaks(self) -> tuple[int, int]:
        """Of one update each: ours, TRL's."""
        inputs = self._trl._buffered_inputs

        def theirs() -> None:
            for batch in inputs:
                loss = self._trl._compute_loss(self._trl.model, batch)
                (loss / len(inputs)).backward()
            self._trl.model.zero_grad()

        weights = sum(weight.nbytes for weight in self._trl.model.parameters())  # gradients are as large
        return peak_bytes(self._ours.update) - weights, peak_bytes(theirs) - weights

    def told(self) -> dict[str, Any]:
        """One row of the table; the first pair warms up."""
        pairs, (ours, theirs) = self._pairs[1:], self._bytes
        row: dict[str, Any] = {"P": self._prompt, "R": self._args.sampled, "G": self._args.group}
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

    def __init__(self, policy: LoadedPolicy, args: argparse.Namespace) -> None:
        self._policy, self._args, self._chance = policy, args, random.Random(args.seed)
        policy.model.generation_config.eos_token_id = None  # exactly so many tokens
        settings = GrpoSettings(
            tuning="full", lr=1e-6, kl=0.0, std_eps=1e-4, micro_batch=args.group, max_tokens=args.sampled
        )
        self._trainer = GrpoTrainer(policy, settings)
        made = random_groups(self._length, args.sampled, args.group, args.groups, args.seed)
        self._prompts = [group.prompt for group in made]
        self._groups: Sequence[RolloutGroup] = made

    @property
    def _length(self) -> int:
        return len(self._policy.processor("")["input_ids"][0])

    def step(self) -> Seconds:
        """CPU seconds of sampling and update."""
        started = time.process_time()
        self._groups = self._sampled()
        sampled = time.process_time()
        self.update()
        ended = time.process_time()
        return {"update": ended - sampled, "step": ended - started}

    def update(self) -> None:
        """One optimiser update from the last rollouts."""
        self._trainer.step(self._groups)

    def _sampled(self) -> list[RolloutGroup]:
        size, tokens = self._args.group, self._args.sampled
        jobs = [
            Job(render(self._policy.processor, p.text, []), size, 1.0, 1.0, tokens, self._chance.randrange(2**31))
            for p in self._prompts
        ]
        written = decode(self._policy.model, TOKENIZER, jobs)
        ids = tuple(jobs[0].inputs["input_ids"][0].tolist())
        return [
            RolloutGroup(prompt, tuple(Rollout(c, self._chance.random()) for c in completions), 0, ids)
            for prompt, completions in zip(self._prompts, written, strict=True)
        ]


class Watch(TrainerCallback):
    """CPU seconds of TRL's steps, and a turn of the other side behind each."""

    def __init__(self, trainer: GRPOTrainer, turn: Callable[[Seconds], None]) -> None:
        self._turn, self._sampling, self._started = turn, 0.0, 0.0
        sample = trainer._generate_and_score_completions

        def timed(inputs: Any) -> Any:
            started = time.process_time()
            outputs = sample(inputs)
            self._sampling += time.process_time() - started
            return outputs

        trainer._generate_and_score_completions = timed

    def on_step_begin(self, *told: Any, **more: Any) -> None:
        """Start the clock."""
        self._started, self._sampling = time.process_time(), 0.0

    def on_step_end(self, *told: Any, **more: Any) -> None:
        """Stop it, and let the other side go."""
        step = time.process_time() - self._started
        self._turn({"update": step - self._sampling, "step": step})


TOKENIZER = build_tokenizer([f" word{number}" for number in range(IMAGE)])
"""Its end token is one that the model cannot write."""


class GivenProcessor(ProcessorMixin):
    """A processor as TRL wants it that gives what `FixedProcessor` rendered, for as many prompts as are asked."""

    def __init__(self, length: int, seed: int) -> None:
        self.tokenizer = copy.deepcopy(TOKENIZER)
        self._inputs = FixedProcessor(length, seed)("")

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


def trl_trainer(model: Any, processor: GivenProcessor, folder: str, args: argparse.Namespace) -> GRPOTrainer:
    """TRL with a reward that costs nothing, and nothing written or told."""
    chance = random.Random(args.seed)
    blank = {"type": "image", "image": None}
    prompt = [{"role": "user", "content": [blank, {"type": "text", "text": "question"}]}]
    return GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **columns: [chance.random() for _ in completions],
        args=GRPOConfig(output_dir=folder, **trl_options(args)),
        train_dataset=Dataset.from_dict({"prompt": [prompt] * args.groups * (args.pairs + 1)}),
        processing_class=processor,
    )


def trl_options(args: argparse.Namespace) -> dict[str, Any]:
    """What TRL is told: our defaults, and nothing that costs it time."""
    return {
        "max_steps": args.pairs + 1,
        "per_device_train_batch_size": args.group,
        "gradient_accumulation_steps": args.groups,
        "num_generations": args.group,
        "max_completion_length": args.sampled,
        "generation_kwargs": {"min_new_tokens": args.sampled, "suppress_tokens": [IMAGE - 1, IMAGE]},
        "learning_rate": 1e-6,
        "weight_decay": 1e-2,
        "lr_scheduler_type": "constant",
        "loss_type": "grpo",
        "beta": 0.0,
        "epsilon_high": 0.3,
        "delta": 3.0,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": args.seed,
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
