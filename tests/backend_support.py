"""Two processes that train with a backend, and one that does the same alone, for the tests of backends."""

import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file
from train_support import WORDS, LocalPool, make_group, make_groups, make_prompt, make_prompts, save_tiny_student

from dpe_ray.models.policy import load_policy, render
from dpe_ray.train import logprobs
from dpe_ray.train.loop import trainable
from dpe_ray.train.settings import GrpoSettings, SftSettings
from dpe_ray.train.sft_loop import train as train_sft
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.train.world import World, distributed_world
from dpe_ray.types import PolicyRef, RolloutGroup

PARTS = ("language", "tower", "projector")
SETTINGS = GrpoSettings(
    lr=1e-5, kl=0.02, micro_batch=4, lora_rank=4, lora_alpha=8, lora_targets=PARTS, drop_equal_groups=True
)
FORWARDS = 2 * (2 + 2)
"""Of a rank in two steps: three groups are left, so two micro-batches on one rank, and the reference sees each too."""
SFT = SftSettings(
    lora_rank=4, lora_alpha=8, lr=1e-5, batch_size=3, micro_batch=1, rationale_share=0.0, max_tokens=4, save_every=1
)
NOISE = "k_proj.bias"
"""It cancels out in the softmax, so AdamW makes a step of rounding noise."""
Work = Callable[[PolicyRef, Path, World], Any]


@dataclass(frozen=True)
class Outcome:
    """What two updates left."""

    state: dict[str, Any]
    resumed: dict[str, Any]
    metrics: dict[str, float]
    forwards: int
    reference: tuple[str, str]
    """Hash before and after."""


def groups_of(student: PolicyRef, folder: Path) -> list[RolloutGroup]:
    """Five groups. All of rank 1 have equal rewards and are dropped; of the three others one shows no picture."""
    first, second, third = make_groups(student, folder)
    prompt = make_prompt(folder, 7, " ".join(WORDS[:4]))
    prompt = replace(prompt, sample=replace(prompt.sample, images=()))
    ids = render(load_policy(student).processor, prompt.text, [])["input_ids"][0].tolist()
    text = make_group(prompt, ids, [0.0, 1.0, 1.0], [[11, 12], [13, 14, 15, 16], [12]])
    even = replace(third, rollouts=tuple(replace(rollout, reward=1.0) for rollout in third.rollouts))
    return [first, even, text, even, second]


def trainer_of(student: PolicyRef, settings: GrpoSettings, world: World) -> GrpoTrainer:
    """One whose adapter starts the same everywhere."""
    return GrpoTrainer(trainable(student, settings, 0), settings, world)


def updated(settings: GrpoSettings, student: PolicyRef, folder: Path, world: World) -> Outcome:
    """Two steps in a row, and the second once more from the state after the first."""
    share = list(world.share(groups_of(student, folder)))
    trainer = trainer_of(student, settings, world)
    before, forwards = trainer.reference.hash(), Counted(trainer)
    trainer.step(share)
    (middle, *_) = world.collect([trainer.state()])
    metrics = trainer.step(share)
    after, state, count = trainer.reference.hash(), trainer.state(), forwards.count
    again = trainer_of(student, settings, world)
    again.load_state(middle[0])
    again.step(share)
    return Outcome(state, again.state(), metrics, count, (before, after))


def in_bf16(settings: GrpoSettings, student: PolicyRef, folder: Path, world: World) -> tuple[float, set[str]]:
    """Loss of a second step, and what the optimiser's weights and moments are in."""
    share = list(world.share(groups_of(student, folder)))
    trainer = trainer_of(student, replace(settings, dtype="bf16"), world)
    trainer.step(share)
    loss, state = trainer.step(share)["loss"], trainer.state()
    kept = [
        *state["weights"].values(),
        *(tensor for moments in state["moments"].values() for tensor in moments.values()),
    ]
    return loss, {str(tensor.dtype) for tensor in kept}


def tuned(settings: SftSettings, student: PolicyRef, folder: Path, world: World) -> dict[str, torch.Tensor]:
    """Weights of the directory that supervised fine-tuning leaves, as stored and as loaded.

    Three and two prompts an update, one a pass.
    """
    prompts = make_prompts(folder / str(world.rank), 5, "1. how many red")
    out = str(folder / "out")
    result = train_sft(student, prompts, LocalPool(student), settings, out=out, seed=0, world=world)
    stored = {f"stored {name}": w for file in Path(out).glob("*.safetensors") for name, w in load_file(file).items()}
    return stored | load_policy(result.policy).model.state_dict()


def tuned_untied(settings: SftSettings, tied: PolicyRef, folder: Path, world: World) -> dict[str, torch.Tensor]:
    """As `tuned`, of a student whose head has weights of its own instead of `tied`."""
    if world.rank == 0:
        save_tiny_student(folder / "start", tied=False)
    world.wait()
    return tuned(settings, PolicyRef(str(folder / "start")), folder, world)


class Counted:
    """Forward passes of a trainer from now on."""

    def __init__(self, trainer: GrpoTrainer) -> None:
        self.count = 0
        self._score = trainer.backend.score
        trainer.backend.score = self  # type: ignore[method-assign]

    def __call__(self, batch: Any) -> Any:
        self.count += 1
        return self._score(batch)


@contextmanager
def small_chunks(rows: int = 5):
    """Logits of so few tokens at once that ranks need different numbers of chunks."""
    before, logprobs.LOGITS_AT_ONCE = logprobs.LOGITS_AT_ONCE, rows * 400
    try:
        yield
    finally:
        logprobs.LOGITS_AT_ONCE = before


TUNINGS = ("full", "lora")
Ranks = list[dict[str, Any]]
"""What every piece of work came to, by rank."""


def on_both_ranks(backends: Sequence[str], student: PolicyRef, folder: Path) -> Ranks:
    """GRPO and SFT with every backend and every tuning; GRPO computes activations twice, as one process does not."""
    works: dict[str, Work] = {}
    for backend, tuning in product(backends, TUNINGS):
        grpo = replace(SETTINGS, backend=backend, tuning=tuning, gradient_checkpointing=True)
        works[f"grpo-{backend}-{tuning}"] = partial(updated, grpo)
        works[f"bf16-{backend}-{tuning}"] = partial(in_bf16, replace(SETTINGS, backend=backend, tuning=tuning))
        works[f"sft-{backend}-{tuning}"] = partial(tuned, replace(SFT, backend=backend, tuning=tuning))
        works[f"untied-{backend}"] = partial(tuned_untied, replace(SFT, backend=backend, tuning="full"))
    return on_two_ranks(works, student, folder)


def assert_update_of_one_process(
    ranks: Ranks, backends: Sequence[str], tuning: str, student: PolicyRef, folder: Path
) -> None:
    """Every backend made, in as many forward passes on both ranks, the update of one process."""
    with small_chunks():
        alone = updated(replace(SETTINGS, tuning=tuning), student, folder, World())
    for backend in backends:
        ours = [rank[f"grpo-{backend}-{tuning}"] for rank in ranks]
        assert [rank.forwards for rank in ours] == [FORWARDS, FORWARDS], backend
        assert_same_updates(ours, alone)


def assert_bf16_of_one_process(
    ranks: Ranks, backends: Sequence[str], tuning: str, student: PolicyRef, folder: Path
) -> None:
    """Of a base in 16 bit every backend trains what is in 32, and comes to the loss of one process, rounded."""
    alone, _ = in_bf16(replace(SETTINGS, tuning=tuning), student, folder, World())
    for backend in backends:
        (loss, dtypes), _ = (rank[f"bf16-{backend}-{tuning}"] for rank in ranks)
        assert loss == pytest.approx(alone, rel=0.05), backend
        assert dtypes == {"torch.float32"}, backend


def assert_files_of_one_process(
    ranks: Ranks, backends: Sequence[str], tuning: str, student: PolicyRef, folder: Path
) -> None:
    """Every backend left the weights of one process, those of the tied head and embedding once."""
    alone = tuned(replace(SFT, tuning=tuning), student, folder, World())
    assert not stored_heads(alone)
    for backend in backends:
        assert_same_files([rank[f"sft-{backend}-{tuning}"] for rank in ranks], alone)


def assert_files_of_an_untied_checkpoint(ranks: Ranks, backends: Sequence[str], folder: Path) -> None:
    """Every backend left the head and the embedding of one process."""
    alone = tuned_untied(replace(SFT, tuning="full"), PolicyRef(""), folder, World())
    assert len(stored_heads(alone)) == 1
    for backend in backends:
        assert_same_files([rank[f"untied-{backend}"] for rank in ranks], alone)


def stored_heads(weights: dict[str, torch.Tensor]) -> list[str]:
    """Names of LM heads among what `tuned` found stored."""
    return [name for name in weights if name.startswith("stored ") and name.endswith("lm_head.weight")]


def on_two_ranks(works: dict[str, Work], student: PolicyRef, folder: Path) -> list[dict[str, Any]]:
    """Results of every piece of work, by rank; the works run one after the other in the same two processes."""
    folder.mkdir(parents=True, exist_ok=True)
    mp.spawn(_on_rank, (works, student, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def _on_rank(rank: int, works: dict[str, Work], student: PolicyRef, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    with small_chunks():
        results = {name: work(student, folder / name, distributed_world("cpu")) for name, work in works.items()}
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def furthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Largest difference of any number, but for weights that have no gradient but noise."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours if not name.endswith(NOISE))


def assert_same_updates(ranks: list[Outcome], alone: Outcome) -> None:
    """Weights and gradients of two ranks are those of one process, before and after going on from a state."""
    first, second = ranks
    assert second.state["weights"] == {}  # one rank writes
    assert furthest(first.state["weights"], alone.state["weights"]) < 1e-6
    assert furthest(gradients(first, alone), gradients(alone, alone)) < 1e-6
    assert furthest(first.resumed["weights"], first.state["weights"]) < 1e-6
    for outcome in ranks:
        assert outcome.reference[0] == outcome.reference[1]
        assert outcome.metrics == pytest.approx(alone.metrics, abs=1e-5)


def gradients(outcome: Outcome, alone: Outcome) -> dict[str, torch.Tensor]:
    """First moments of the weights that one process has a gradient of."""
    return {name: outcome.state["moments"][name]["exp_avg"] for name in alone.state["moments"]}


def assert_same_files(ranks: list[dict[str, torch.Tensor]], alone: dict[str, torch.Tensor]) -> None:
    """Every rank reads the weights of one process from what is left."""
    assert all(furthest(rank, alone) < 1e-6 for rank in ranks)
