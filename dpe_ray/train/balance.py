"""The same work for every rank: whole groups dealt out, and forward passes that all run in step."""

from collections.abc import Sequence

from dpe_ray.train.batching import TrainingSequence
from dpe_ray.train.world import World
from dpe_ray.types import RolloutGroup


def dealt(groups: Sequence[RolloutGroup], world: World) -> list[RolloutGroup]:
    """Pick this rank's part of whole groups that every rank knows: numbers differ by at most one, lengths hardly.

    Longest first, along the ranks and back again.
    """
    lengths = [len(g.prompt_ids) + max(len(rollout.completion.token_ids) for rollout in g.rollouts) for g in groups]
    order = sorted(range(len(groups)), key=lambda index: -lengths[index])
    turn = 2 * world.size
    own = (world.rank, turn - 1 - world.rank)
    return [groups[index] for place, index in enumerate(order) if place % turn in own]


def in_step(
    batches: Sequence[list[TrainingSequence]], spare: list[TrainingSequence], world: World
) -> list[list[TrainingSequence]]:
    """Add `spare`, a micro-batch without weight, so that every rank runs the same modules equally often.

    A rank that has fewer micro-batches than another runs it alone; where pictures are seen in an update, it goes with
    the micro-batches that show none, else the picture tower would run on some ranks only.
    """
    if world.size == 1:
        return list(batches)
    padded = [*batches, *[spare] * (world.largest(len(batches)) - len(batches))]
    if not world.largest(int(any(map(_shows_pictures, padded)))):
        return padded
    return [batch if _shows_pictures(batch) else batch + spare for batch in padded]


def _shows_pictures(batch: Sequence[TrainingSequence]) -> bool:
    return any(sequence.prompt.sample.images for sequence in batch)
