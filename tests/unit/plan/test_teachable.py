import pytest

from dpe_ray.config import TrainConfig
from dpe_ray.plan.teachable import teachable
from dpe_ray.types import Need


@pytest.mark.parametrize(
    ("train", "beyond"),
    [
        ({"method": "grpo"}, set()),
        ({"method": "sft"}, {Need.KNOWLEDGE}),
        ({"method": "chain", "tuning": "full"}, {Need.KNOWLEDGE, Need.PERCEPTION}),
        ({"method": "grpo", "tuning": "full"}, {Need.PERCEPTION}),
    ],
)
def test_what_no_answer_gets_right_wants_completions_and_what_is_not_seen_the_vision_tower(train, beyond):
    assert teachable(TrainConfig(**train)) == {Need.ELICITABLE, Need.FORMAT} | beyond
