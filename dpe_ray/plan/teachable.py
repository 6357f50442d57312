"""Which needs a run's training can meet: a cell that lacks anything else is not worth more than the floor."""

from dpe_ray.config import TrainConfig
from dpe_ray.types import Need


def teachable(train: TrainConfig) -> frozenset[Need]:
    """Needs that the method and the tuned weights can meet.

    Sampled answers bring out what some of them get right, and rewards or targets teach the form; what no answer gets
    right is learned from completions only, and what is not seen only where the vision tower is trained.
    """
    needs = {Need.ELICITABLE, Need.FORMAT}
    if train.method != "grpo":
        needs.add(Need.KNOWLEDGE)
    if train.tuning == "full":
        needs.add(Need.PERCEPTION)
    return frozenset(needs)
