import json

import pytest
from safetensors.torch import save_file
from torch import zeros

from dpe_ray.errors import ModelError
from dpe_ray.models.policy import load_policy, save_policy
from dpe_ray.models.vllm_adapter import require_served
from dpe_ray.types import PolicyRef

LANGUAGE = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"


def adapter(folder, names=(LANGUAGE,), **settings):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, **settings}))
    save_file({name: zeros(1) for name in names}, folder / "adapter_model.safetensors")
    return str(folder)


def test_an_adapter_of_the_language_model_as_training_leaves_it_is_served(student, tmp_path):
    policy = load_policy(PolicyRef(student), trainable="lora")
    save_policy(policy.model, policy.processor, tmp_path / "made")
    for folder in (
        str(tmp_path / "made"),
        adapter(tmp_path / "head", [LANGUAGE, "base_model.model.lm_head.lora_A.weight"]),
    ):
        assert require_served(folder, rank=16, towers=False) is None


def test_a_projector_that_an_adapter_carries_whole_is_refused_even_where_towers_are_applied(student, tmp_path):
    policy = load_policy(PolicyRef(student), trainable="lora", projector=True)
    save_policy(policy.model, policy.processor, tmp_path / "made")
    with pytest.raises(ModelError, match=r"whole copies of multi_modal_projector.*projector_lr"):
        require_served(str(tmp_path / "made"), rank=16, towers=True)


@pytest.mark.parametrize("name", [
    "base_model.model.model.multi_modal_projector.linear_1.lora_A.weight",
    "base_model.model.model.visual.merger.mlp.0.lora_B.weight",
    "base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj.lora_A.weight",
])  # fmt: skip
def test_low_rank_weights_outside_the_language_model_are_refused_unless_they_are_applied(tmp_path, name):
    folder = adapter(tmp_path / "a", [LANGUAGE, name])
    require_served(folder, rank=8, towers=True)
    with pytest.raises(ModelError, match=name.rpartition(".lora_")[0]):
        require_served(folder, rank=8, towers=False)


def test_a_rank_that_there_is_no_room_for_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"has rank 8, and options\.max_lora_rank is 4"):
        require_served(adapter(tmp_path / "a"), rank=4, towers=False)
    with pytest.raises(ModelError, match="has rank 64"):
        require_served(adapter(tmp_path / "b", rank_pattern={"q_proj": 64}), rank=32, towers=False)


def test_what_is_no_adapter_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="give a PEFT directory") as caught:
        require_served(str(tmp_path), rank=8, towers=False)
    assert "\n" not in str(caught.value)
