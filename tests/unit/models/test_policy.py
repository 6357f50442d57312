from pathlib import Path

import pytest
import torch
from packing_support import MODELS
from PIL import Image
from safetensors import safe_open
from transformers import AutoModelForImageTextToText

from dpe_ray.errors import ControlToken, ModelError, UnfitPicture
from dpe_ray.models.policy import answer_ids, load_policy, load_processor, render, save_policy
from dpe_ray.types import PolicyRef

RED = Image.new("RGB", (64, 64), "red")


def logits(policy):
    with torch.no_grad():
        return policy.model(**render(policy.processor, "What colour?", [RED])).logits


def shake(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)


def test_a_prompt_is_a_user_turn_with_expanded_image_tokens_and_an_open_answer(student):
    policy = load_policy(PolicyRef(student))
    inputs = render(policy.processor, "What colour?", [RED])
    assert policy.processor.tokenizer.decode(inputs["input_ids"][0]) == (
        "<|user|>" + "<image>" * 16 + "What colour?<|end|><|assistant|>")  # fmt: skip
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)


def test_nothing_is_trainable_unless_asked(student):
    assert not any(p.requires_grad for p in load_policy(PolicyRef(student)).model.parameters())
    assert all(p.requires_grad for p in load_policy(PolicyRef(student), trainable="full").model.parameters())


def test_a_new_adapter_touches_the_language_model_only_and_changes_nothing_yet(student):
    adapted = load_policy(PolicyRef(student), trainable="lora", lora_rank=4, lora_alpha=8)
    trained = [name for name, p in adapted.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name and "language_model" in name for name in trained)
    torch.testing.assert_close(logits(adapted), logits(load_policy(PolicyRef(student))))


def test_an_adapter_survives_saving_and_can_be_trained_further(student, tmp_path):
    adapted = load_policy(PolicyRef(student), trainable="lora")
    shake(adapted.model)
    save_policy(adapted.model, adapted.processor, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    ref = PolicyRef(student, str(tmp_path / "adapter"), 1)
    again = load_policy(ref)
    torch.testing.assert_close(logits(again), logits(adapted))
    assert not any(p.requires_grad for p in again.model.parameters())
    further = load_policy(ref, trainable="lora").model
    assert any(p.requires_grad for p in further.parameters())
    merged = load_policy(ref, trainable="full")
    assert all(p.requires_grad for p in merged.model.parameters())
    torch.testing.assert_close(logits(merged), logits(adapted), atol=1e-4, rtol=1e-4)


def test_a_whole_model_survives_saving_under_the_hubs_names(student, tmp_path):
    policy = load_policy(PolicyRef(student), trainable="full")
    shake(policy.model)
    save_policy(policy.model, policy.processor, tmp_path / "full")
    torch.testing.assert_close(logits(load_policy(PolicyRef(str(tmp_path / "full")))), logits(policy))
    with safe_open(tmp_path / "full" / "model.safetensors", "pt") as file:
        tower = [key for key in file.keys() if "vision_tower" in key]  # noqa: SIM118  (no mapping)
    assert tower
    assert all("vision_tower.vision_model." in key for key in tower)


@pytest.mark.parametrize("token", ["<|end|>", "<image>", "<picture>"])
def test_a_text_with_a_control_token_is_refused_also_where_only_the_processor_knows_it(student, token):
    policy = load_policy(PolicyRef(student))
    policy.processor.image_token = "<picture>"
    with pytest.raises(ControlToken, match="control token"):
        answer_ids(policy, f"red {token}")
    with pytest.raises(ControlToken, match="control token"):
        render(policy.processor, f"red {token}", [])


def test_a_picture_that_the_processor_cannot_take_is_told_with_its_size():
    processor = MODELS["qwen3-vl"]().processor
    with pytest.raises(UnfitPicture, match="pictures of 1000 x 4 pixels"):
        render(processor, "What colour?", [Image.new("RGB", (1000, 4))])


@pytest.mark.parametrize("ref", [PolicyRef("/nowhere/at/all"), PolicyRef("")])
def test_what_cannot_be_loaded_is_one_line(ref):
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_policy(ref)
    assert "\n" not in str(caught.value)


HINT = "give a vision-language checkpoint"


def test_a_checkpoint_is_asked_for_where_the_checkpoint_is_wrong(tmp_path, student):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((Path(student) / name).read_bytes())
    with pytest.raises(ModelError, match=HINT):
        load_policy(PolicyRef(str(tmp_path)))


def test_what_no_other_checkpoint_would_mend_asks_for_none(student, tmp_path, monkeypatch):
    def no_room(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(ModelError, match="with adapter") as adapter:
        load_policy(PolicyRef(student, str(tmp_path / "nowhere")))
    monkeypatch.setattr("dpe_ray.models.adapter.part_of", lambda name: "language")
    with pytest.raises(ModelError, match=r"no linear layers of its tower.*train\.lora_targets") as targets:
        load_policy(PolicyRef(student), trainable="lora", lora_targets=("tower",))
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", no_room)
    with pytest.raises(ModelError, match="CUDA out of memory") as memory:
        load_policy(PolicyRef(student))
    assert not any(HINT in str(each.value) for each in (adapter, targets, memory))


def test_pickled_weights_are_refused(student, tmp_path):
    policy = load_policy(PolicyRef(student))
    policy.model.config.save_pretrained(tmp_path)
    policy.processor.save_pretrained(tmp_path)
    torch.save(policy.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError):
        load_policy(PolicyRef(str(tmp_path)))


def test_a_processor_that_lacks_a_package_is_told_with_what_to_install(monkeypatch):
    import transformers

    def lacking(*_, **__):
        raise ImportError("Qwen2VLVideoProcessor requires the Torchvision library\nPlease note that ...")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lacking)
    with pytest.raises(ModelError, match=r"pip install 'dpe-ray\[qwen\]'"):
        load_processor("some/qwen")
