"""A round of GRPO: choose prompts, roll out, score, update, publish, and again. No Ray: the pool is a port."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial

import torch

from dpe_ray.errors import TrainingError
from dpe_ray.models.policy import LoadedPolicy, load_policy
from dpe_ray.ports import RolloutPool
from dpe_ray.seeds import child_seed
from dpe_ray.train.ahead import Rollouts
from dpe_ray.train.batching import permute_rewards
from dpe_ray.train.checkpoints import Progress, StepFolders
from dpe_ray.train.efficiency import efficiency
from dpe_ray.train.ending import training_key
from dpe_ray.train.fitting import fitting_prompts, sizes, without_control_tokens
from dpe_ray.train.metrics import Metrics, OnStep, ignore_step, rollout_metrics
from dpe_ray.train.reward import PARTS, Part, Rubric, rubric_of
from dpe_ray.train.settings import GrpoSettings, PolicySettings, SftSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.train.world import World
from dpe_ray.types import PolicyRef, Prompt, RolloutGroup, TrainResult


def train(
    policy: PolicyRef,
    prompts: Sequence[Prompt],
    pool: RolloutPool,
    settings: GrpoSettings,
    *,
    out: str,
    seed: int,
    world: World | None = None,
    parts: Mapping[str, Part] = PARTS,
    on_step: OnStep = ignore_step,
) -> TrainResult:
    """Train on `prompts` and leave a Hugging Face or PEFT directory at `out`, which all ranks and engines must see.

    The folders of its steps stay below it, for `methods.finetune` to remove. Every rank calls this with the same
    arguments but its own `world`; rank 0 writes and publishes. A run that was killed goes on from its last finished
    step when called again with the same arguments. `parts` are the rewards that `settings.reward` weights; `on_step`
    gets, on every rank, the number of finished steps and the last one's metrics. Prompts that the policy cannot be
    shown are left out and counted. Raises TrainingError: none that can be, fewer prompts in a step than ranks, a
    processor that does not fit its model, rollouts of another policy than was published, a loss that is not finite.
    """
    world = world or World()
    rubric = rubric_of(settings, parts)
    trainer, fits, refused = _prepared(policy, prompts, settings, seed, world)
    share = min(settings.prompts_per_step, len(fits))
    key = training_key(policy, prompts, settings, seed)

    def groups_of(step: int, version: int) -> list[RolloutGroup]:
        batch = world.share([fits[index] for index in chosen(len(fits), share, step, seed)])
        return roll_out(pool, batch, settings, version, child_seed(seed, step, world.rank))

    rolling = Rollouts(groups_of, settings.steps, settings.rollouts_ahead)
    publish = partial(_publish, pool, rolling, world)
    with StepFolders(out, key, policy, trainer, tuning=settings.tuning, world=world) as folders, rolling:
        progress = folders.resume()
        if settings.rollouts_ahead and progress.metrics:
            _begin_again(rolling, publish, folders.before(progress), len(progress.metrics))
        publish(progress.policy)
        for step in range(len(progress.metrics), settings.steps):
            watch = Stopwatch()
            taken = rolling.take(step, progress.policy.version)
            rolling.begin(step + 1, progress.policy.version)
            groups = scored(taken, rubric, settings.permute_rewards, child_seed(seed, step))
            watch.lap("rollout_s")
            metrics = rollout_metrics(groups, list(rubric.weights), world) | trainer.step(groups)
            watch.lap("update_s")
            current = folders.write(step + 1)
            publish(current)
            watch.lap("publish_s")
            tokens = metrics["completions/mean_length"] * share * settings.group_size
            metrics |= _pace(watch, tokens, settings.steps - step - 1)
            metrics |= efficiency(metrics["update_tflop"], watch.laps["update_s"], settings, trainer.policy, world)
            progress = Progress(current, (*progress.metrics, metrics))
            folders.commit(progress)
            on_step(step + 1, metrics, groups)

        folders.finish()
        publish(folders.final)
    return TrainResult(folders.final, settings.steps, progress.metrics, refused)


def chosen(count: int, size: int, step: int, seed: int) -> list[int]:
    """Pick the indices of the `size` prompts of a step: `count` prompts in shuffled epochs, one after the other."""
    places = range(step * size, (step + 1) * size)
    return [_epoch(count, place // count, seed)[place % count] for place in places]


def roll_out(
    pool: RolloutPool, batch: Sequence[Prompt], settings: GrpoSettings | SftSettings, version: int, seed: int
) -> list[RolloutGroup]:
    """Sample one group per prompt. Raises TrainingError when they come from another policy than `version`."""
    groups = pool.rollout(
        batch,
        group_size=settings.group_size,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        seed=seed,
    )
    if strange := {group.policy_version for group in groups} - {version}:
        raise TrainingError(
            f"rollouts come from policy version {strange.pop()}, published was {version}; "
            "an engine did not take the last policy"
        )
    return groups


def scored(groups: Sequence[RolloutGroup], rubric: Rubric, permute: bool, seed: int) -> list[RolloutGroup]:
    """Fill in the rewards; `permute` deals them out anew within each group."""
    filled = [rubric.score(group) for group in groups]
    if not permute:
        return filled
    return [permute_rewards(group, child_seed(seed, "permute", group.prompt.sample.id)) for group in filled]


def trainable(policy: PolicyRef, settings: PolicySettings, seed: int) -> LoadedPolicy:
    """Load the policy; a new adapter starts the same on every rank and after every restart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child_seed(seed, "adapter"))
        return load_policy(
            policy,
            trainable=settings.tuning,
            lora_rank=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_targets=settings.lora_targets,
            dtype=settings.dtype,
            quantize=settings.quantize,
            projector=isinstance(settings, SftSettings) and settings.projector_lr > 0,
        )


class Stopwatch:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Write down the seconds since the lap before."""
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Seconds of all laps."""
        return sum(self.laps.values())


def _pace(watch: Stopwatch, tokens: float, left: int) -> Metrics:
    pace = {"step_time_s": watch.total, "tokens_per_s": tokens / watch.total}
    return watch.laps | pace | {"steps_left": float(left)}


@lru_cache(maxsize=2)
def _epoch(count: int, epoch: int, seed: int) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(child_seed(seed, "epoch", epoch)).shuffle(order)
    return tuple(order)


def _prepared(
    policy: PolicyRef, prompts: Sequence[Prompt], settings: GrpoSettings, seed: int, world: World
) -> tuple[GrpoTrainer, list[Prompt], dict[str, int]]:
    """Load the policy, and leave out what it cannot be shown before a rollout is paid for; how many, by reason.

    Of a set that is larger than all steps together only what they would show is rendered, and is left.
    """
    loaded = trainable(policy, settings, seed)
    plain, refused = without_control_tokens(prompts, loaded)
    shown = settings.steps * settings.prompts_per_step
    if shown < len(plain):
        plain = [plain[index] for index in sorted(chosen(len(plain), shown, 0, seed))]
    fits, others = fitting_prompts(plain, sizes(plain, loaded, world))
    if (share := min(settings.prompts_per_step, len(fits))) < world.size:
        raise TrainingError(f"{share} prompts a step for {world.size} workers; lower train.workers")
    return GrpoTrainer(loaded, settings, world), fits, refused | others


def _begin_again(rolling: Rollouts, publish: Callable[[PolicyRef], None], before: PolicyRef, step: int) -> None:
    """Begin the rollouts that were under way when the run was killed, from the policy that they came from."""
    publish(before)
    rolling.begin(step, before.version)


def _publish(pool: RolloutPool, rolling: Rollouts, world: World, policy: PolicyRef) -> None:
    """Rank 0 publishes when nobody rolls out any more; the others go on when it has."""
    rolling.settle()
    world.wait()
    if world.rank == 0:
        pool.publish(policy)
    world.wait()
