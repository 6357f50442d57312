"""What the pictures of a prompt are to a model: patches of its tower, and one feature for every placeholder."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dpe_ray.errors import TrainingError

Inputs = Mapping[str, Any]

CLASS_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0}
"""Features of a LLaVA tower, by its kind, that stand before those of its patches."""


def placeholders(config: Any, inputs: Inputs) -> int:
    """Tokens of a prompt that pictures take the place of; `config` is the model's, `inputs` the processor's."""
    ids: Tensor = inputs["input_ids"]
    return int((ids == config.image_token_id).sum()) if hasattr(config, "image_token_id") else 0


def patches(config: Any, inputs: Inputs) -> int:
    """Places that the picture tower computes for a prompt; 0 for models whose pictures are of neither known form."""
    if "image_grid_thw" in inputs:
        return int(inputs["image_grid_thw"].prod(dim=-1).sum())
    if config.model_type == "llava" and "pixel_values" in inputs:
        images, _, height, width = inputs["pixel_values"].shape
        side = config.vision_config.patch_size
        return int(images * (height // side) * (width // side))
    return 0


def require_features(config: Any, inputs: Inputs, sample: str) -> None:
    """Raise TrainingError when a prompt has more or fewer placeholders than its pictures give features.

    A transformers model would say so only after the tower has run, or put features of one prompt into another. Models
    whose pictures are of neither known form, and LLaVA over a tower of no known kind, are left to it.
    """
    features, found = _features(config, inputs), placeholders(config, inputs)
    if features is not None and features != found:
        raise TrainingError(
            f"sample {sample}: its prompt has {found} image tokens and its pictures give {features} features; "
            "the checkpoint's processor does not fit its model"
        )


def _features(config: Any, inputs: Inputs) -> int | None:
    """Features that the model puts in the place of placeholders; None where only the model knows."""
    if "image_grid_thw" in inputs:
        return patches(config, inputs) // config.vision_config.spatial_merge_size**2
    if config.model_type != "llava":
        return None
    pictures, tower = len(inputs.get("pixel_values", ())), config.vision_config.model_type
    if not pictures:
        return 0
    if tower not in CLASS_TOKENS:
        return None
    cut = config.vision_feature_select_strategy == "default"  # the first feature goes, whatever it is of
    return patches(config, inputs) + (CLASS_TOKENS[tower] - cut) * pictures
