"""Gradient checkpointing: layers keep what they are given, and compute all else again in the backward pass."""

from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from dpe_ray.errors import TrainingError


def recomputed_layers(model: Any) -> list[nn.Module]:
    """Make a transformers model, whose adapter is in place, checkpoint its layers; returns them.

    They do so in training mode only, without dropout of their own where they have none. Raises TrainingError for a
    model that cannot.
    """
    if not model.supports_gradient_checkpointing:
        raise TrainingError(f"train.gradient_checkpointing: {model.config.model_type} cannot; set it to false")
    # without dropout there is no random state to put back
    model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    # The reentrant form needs inputs with gradients, this one does not: they would only draw the backward pass through
    # all that is frozen below an adapter, picture tower included.
    model.disable_input_require_grads()
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
