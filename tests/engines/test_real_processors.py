"""Qwen's models with their own processors: prompts, rollouts and updates, with and without the shared prefix."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engines.tiny_qwen import save_tiny_qwen, save_tiny_qwen3
from packing_support import hard_groups

from dpe_ray.models.images import decode, read_bytes
from dpe_ray.models.policy import LoadedPolicy, load_policy, render
from dpe_ray.models.transformers_engine import TransformersEngine
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.types import PolicyRef

MAKERS = {"qwen2.5-vl": save_tiny_qwen, "qwen3-vl": save_tiny_qwen3}


@pytest.fixture(scope="module", params=MAKERS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    make: Callable[[Path], str] = MAKERS[request.param]
    return make(tmp_path_factory.mktemp(request.param))


def test_prompts_with_two_pictures_one_and_none_are_trained_alike_in_both_forms(source: str, tmp_path: Path) -> None:
    norms = []
    for form in ("off", "auto"):
        policy = load_policy(PolicyRef(source), trainable="full")
        groups = hard_groups(policy, tmp_path)
        settings = GrpoSettings(tuning="full", lr=1e-6, kl=0.0, shared_prefix=form)
        before = [weight.clone() for weight in policy.model.parameters()]
        norms.append(GrpoTrainer(policy, settings).step(groups)["grad_norm"])
        moved = [not torch.equal(old, new) for old, new in zip(before, policy.model.parameters(), strict=True)]
        assert sum(moved) > len(moved) / 2
    assert norms[0] > 0
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


def test_a_prompt_has_as_many_placeholders_as_features_and_the_engine_sees_the_same(
    source: str, tmp_path: Path
) -> None:
    policy: LoadedPolicy = load_policy(PolicyRef(source))
    prompts = [group.prompt for group in hard_groups(policy, tmp_path)]
    rolled = TransformersEngine(source, {}).rollout(
        prompts, group_size=2, temperature=1.0, top_p=1.0, max_tokens=4, seed=0
    )
    placeholder = policy.model.config.image_token_id
    for prompt, group in zip(prompts, rolled, strict=True):
        images = [decode(read_bytes(image)) for image in prompt.sample.images]
        inputs = render(policy.processor, prompt.text, images)
        ids = tuple(inputs["input_ids"][0].tolist())
        features = int(inputs["image_grid_thw"].prod(dim=1).sum()) // 4 if images else 0
        assert ids.count(placeholder) == features
        assert group.prompt_ids == ids
