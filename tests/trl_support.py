"""TRL's own GRPOTrainer on rollouts that are given: its advantages, its loss and the gradients of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # rollout_func is the door for given completions
from trl import GRPOConfig, GRPOTrainer

from dpe_ray.models.policy import LoadedPolicy
from dpe_ray.types import RolloutGroup

Gradients = dict[str, Tensor]


@dataclass
class GivenRollouts:
    """What TRL asks for instead of sampling and scoring."""

    groups: Sequence[RolloutGroup] = ()

    def rollouts(self, prompts: list[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """As TRL's `rollout_func`."""
        members = [(group, rollout) for group in self.groups for rollout in group.rollouts]
        return {
            "prompt_ids": [list(group.prompt_ids) for group, _ in members],
            "completion_ids": [list(rollout.completion.token_ids) for _, rollout in members],
            "logprobs": [list(rollout.completion.logprobs) for _, rollout in members],
        }

    def rewards(self, **columns: Any) -> list[float]:
        """As a reward function of TRL's."""
        return [rollout.reward for group in self.groups for rollout in group.rollouts]

    def rows(self) -> list[dict[str, Any]]:
        """A data set's rows, one per rollout."""
        return [
            {
                "prompt": [{"role": "user", "content": group.prompt.text}],
                "images": [Image.open(image.uri) for image in group.prompt.sample.images],
            }
            for group in self.groups
            for _ in group.rollouts
        ]


def trl_trainer(policy: LoadedPolicy, given: GivenRollouts, out: Path, **config: Any) -> GRPOTrainer:
    """A trainer for the policy, whose rollouts come from what would be vLLM to it.

    With two iterations a batch TRL computes the old log-probabilities by a forward pass of its own.
    """
    size = len(given.rows())
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=given.rewards,
        args=GRPOConfig(
            output_dir=str(out),
            per_device_train_batch_size=size,
            num_generations=len(given.groups[0].rollouts),
            num_iterations=2,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
            **config,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["unused"] * size}),
        processing_class=policy.processor,
        rollout_func=given.rollouts,
    )
    trainer.use_vllm = True
    trainer._last_loaded_step = trainer.state.global_step
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def trl_inputs(trainer: GRPOTrainer, given: GivenRollouts) -> dict[str, Any]:
    """Advantages and the old and reference log-probabilities under the weights that the trainer has now."""
    inputs: dict[str, Any] = trainer._generate_and_score_completions(given.rows())
    return inputs


def trl_loss(trainer: GRPOTrainer, inputs: dict[str, Any], move: float) -> tuple[float, Gradients]:
    """Loss and gradients after all weights were multiplied by `move`."""
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.mul_(move)
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    named = trainer.model.named_parameters()
    return float(loss.detach()), {name: weight.grad for name, weight in named if weight.grad is not None}
