"""What an adapter is on, and what of it is trained, in models of the three architectures."""

from dataclasses import replace

import pytest
import torch
from packing_support import MODELS
from peft import PeftModel
from torch import nn

from dpe_ray.errors import ModelError
from dpe_ray.models.adapter import new_adapter, open_adapter, part_of
from dpe_ray.models.policy import load_policy, save_policy
from dpe_ray.types import PolicyRef

ARCHITECTURES = ("llava", "qwen2.5-vl", "qwen3-vl")
WITHIN = {
    "language": ("language_model.",),
    "tower": ("vision_tower.", "visual.blocks."),
    "projector": ("multi_modal_projector.", "visual.merger.", "visual.deepstack_merger_list."),
}


def adapted(architecture, *targets):
    return new_adapter(MODELS[architecture]().model, targets, rank=2, alpha=4, whole_projector=False)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("targets", [("language",), ("tower",), ("projector",), ("language", "tower", "projector")])
def test_an_adapter_is_on_every_linear_layer_of_its_targets_and_on_no_other(architecture, targets):
    linear = {name for name, module in MODELS[architecture]().model.named_modules() if isinstance(module, nn.Linear)}
    wanted = {name for name in linear if any(place in name for target in targets for place in WITHIN[target])}
    weights = [name for name, weight in adapted(architecture, *targets).named_parameters() if weight.requires_grad]
    got = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in weights}
    assert got == wanted
    assert {part_of(name) for name in weights} == set(targets)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_its_directory_goes_back_onto_the_same_layers(architecture, tmp_path):
    model = adapted(architecture, "tower", "projector")
    save_policy(model, None, tmp_path)
    again = PeftModel.from_pretrained(MODELS[architecture]().model, tmp_path)
    ours, theirs = ({name: w for name, w in m.state_dict().items() if "lora_" in name} for m in (model, again))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_whole_projector_is_all_that_lies_between_tower_and_language_model_and_comes_back(architecture, tmp_path):
    plain = MODELS[architecture]().model
    wanted = {name for name, _ in plain.named_parameters() if any(place in name for place in WITHIN["projector"])}
    model = new_adapter(plain, ("language",), rank=2, alpha=4, whole_projector=True)
    open_adapter(model, ("language",), whole_projector=True)
    opened = [name for name, weight in model.named_parameters() if weight.requires_grad and "lora_" not in name]
    names = {name.removeprefix("base_model.model.").replace(".modules_to_save.default", "") for name in opened}
    assert names == wanted
    for name in opened:
        nn.init.normal_(model.get_parameter(name))
    save_policy(model, None, tmp_path)
    again = PeftModel.from_pretrained(MODELS[architecture]().model, tmp_path)
    assert all(torch.equal(model.get_parameter(name), again.get_parameter(name)) for name in opened)


def test_an_adapter_that_goes_on_is_trained_at_its_targets_alone(student, tmp_path):
    adapted = load_policy(PolicyRef(student), trainable="lora", lora_targets=("language", "tower"))
    save_policy(adapted.model, adapted.processor, tmp_path)
    further = load_policy(PolicyRef(student, str(tmp_path)), trainable="lora", lora_targets=("tower",)).model
    assert {part_of(name) for name, weight in further.named_parameters() if weight.requires_grad} == {"tower"}
    with pytest.raises(ModelError, match=r"holds no projector.*train\.lora_targets"):
        load_policy(PolicyRef(student, str(tmp_path)), trainable="lora", lora_targets=("tower", "projector"))


def test_a_whole_projector_stands_beside_low_rank_weights_and_is_frozen_unless_asked(student, tmp_path):
    adapted = load_policy(PolicyRef(student), trainable="lora", projector=True)
    save_policy(adapted.model, adapted.processor, tmp_path)
    ref = replace(PolicyRef(student), adapter=str(tmp_path))
    open_parts = [
        {part_of(name) for name, weight in load_policy(ref, trainable="lora", projector=asked).model.named_parameters()
         if weight.requires_grad}
        for asked in (False, True)
    ]  # fmt: skip
    assert open_parts == [{"language"}, {"language", "projector"}]


def test_a_part_that_is_not_there_is_refused():
    model = MODELS["llava"]().model
    model.model.multi_modal_projector = nn.Identity()
    with pytest.raises(ValueError, match=r"no linear layers of its projector"):
        new_adapter(model, ("projector",), rank=2, alpha=4, whole_projector=False)
    plain = new_adapter(model, ("language",), rank=2, alpha=4, whole_projector=False)
    with pytest.raises(ValueError, match="holds no tower"):
        open_adapter(plain, ("language", "tower"), whole_projector=False)
