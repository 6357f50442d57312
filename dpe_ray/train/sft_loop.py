"""A round of supervised fine-tuning: complete the samples, leave out what does not fit, update, save. No Ray."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dpe_ray.ports import RolloutPool
from dpe_ray.train.checkpoints import Progress, StepFolders
from dpe_ray.train.efficiency import efficiency
from dpe_ray.train.ending import STEPS, training_key
from dpe_ray.train.fitting import fitting_samples, sizes
from dpe_ray.train.loop import Stopwatch, chosen, trainable
from dpe_ray.train.metrics import OnStep, ignore_step
from dpe_ray.train.rationales import with_rationales
from dpe_ray.train.settings import SftSettings
from dpe_ray.train.sft_trainer import SftTrainer
from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef, Prompt, TrainResult


def train(
    policy: PolicyRef,
    prompts: Sequence[Prompt],
    pool: RolloutPool,
    settings: SftSettings,
    *,
    out: str,
    seed: int,
    world: World | None = None,
    on_step: OnStep = ignore_step,
) -> TrainResult:
    """Train on the completions of the prompts' samples; leaves the policy and its steps as `loop.train` does.

    Every rank calls this with the same arguments but its own `world`; rank 0 writes. The pool is asked only for the
    rationales that `settings.rationale_share` wants. A run that was killed goes on from its last checkpoint when called
    again with the same arguments. `on_step` gets, on every rank, the number of finished updates and the last one's
    metrics. Raises TrainingError: no prompts, none that fits the model, a loss that is not finite.
    """
    world = world or World()
    key = training_key(policy, prompts, settings, seed)
    file = Path(out) / STEPS / f"rationales-{key}.json"
    loaded = trainable(policy, settings, seed)
    found = sizes(prompts, loaded, world)
    short, refused = fitting_samples(prompts, found, loaded, settings.max_length)
    complete = with_rationales(policy, short, pool, settings, file=file, seed=seed, world=world)
    fits, late = fitting_samples(complete, found, loaded, settings.max_length)
    steps = math.ceil(len(fits) * settings.epochs / settings.batch_size)
    trainer = SftTrainer(loaded, settings, steps, world)
    with StepFolders(out, key, policy, trainer, tuning=settings.tuning, world=world) as folders:
        progress = folders.resume()

        for step in range(len(progress.metrics), steps):
            watch = Stopwatch()
            batch = epoch_batch(fits, step, settings, seed)
            spare = next((prompt for prompt in batch if prompt.sample.images), batch[0])
            metrics = trainer.step(world.share(batch), spare)
            watch.lap("step_time_s")
            metrics |= watch.laps | {"tokens_per_s": metrics["num_tokens"] / watch.total}
            metrics |= efficiency(metrics["update_tflop"], watch.total, settings, loaded, world)
            metrics["steps_left"] = float(steps - step - 1)
            metrics["num_tokens"] += progress.metrics[-1]["num_tokens"] if step else 0.0
            progress = Progress(policy, (*progress.metrics, metrics))
            if (step + 1) % settings.save_every == 0:
                folders.commit(progress)
            on_step(step + 1, metrics, ())

        folders.finish()
    world.wait()
    return TrainResult(folders.final, steps, progress.metrics, dict(Counter(refused) + Counter(late)))


def epoch_batch(prompts: Sequence[Prompt], step: int, settings: SftSettings, seed: int) -> list[Prompt]:
    """Prompts of one update over all ranks: shuffled epochs one after the other, the very last batch smaller."""
    left = len(prompts) * settings.epochs - step * settings.batch_size
    indices = chosen(len(prompts), settings.batch_size, step, seed)[:left]
    return [prompts[index] for index in indices]
