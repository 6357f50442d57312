"""Counted operations are those that torch counts in the real passes, and what is made of them is told honestly."""

from pathlib import Path

import pytest
import torch
from packing_support import MODELS, adapted, hard_groups
from torch.utils.flop_counter import FlopCounterMode

from dpe_ray.models.policy import LoadedPolicy
from dpe_ray.train import efficiency as measured
from dpe_ray.train.batching import MicroBatch, collate, training_sequences
from dpe_ray.train.efficiency import efficiency, peak_tflops
from dpe_ray.train.flops import Flops, tokens_of
from dpe_ray.train.logprobs import CompletionLogprobs
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer
from dpe_ray.train.world import World

ARCHITECTURES = ("llava", "qwen2.5-vl", "qwen3-vl")
MATRICES = ("aten.mm", "aten.addmm", "aten.convolution", "aten.convolution_backward")
"""What linear layers and patch embeddings come to; products of queries and keys are others."""


def batch_of(policy: LoadedPolicy, folder: Path) -> MicroBatch:
    return collate([s for group in hard_groups(policy, folder) for s in training_sequences(group)], pad_id=0)


def torch_counts(module: CompletionLogprobs, batch: MicroBatch, *, backward: bool) -> float:
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        total = module(batch).logprobs.sum()
        if backward:
            total.backward()
    counts = counter.get_flop_counts()["Global"]
    return sum(count for operation, count in counts.items() if str(operation) in MATRICES)


@pytest.mark.parametrize(
    "tuning", ["full", "lora language", "lora projector", "lora language tower projector", "lora language whole"]
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_passes_cost_what_torch_counts(architecture: str, tuning: str, tmp_path: Path) -> None:
    policy = adapted(MODELS[architecture](), tuning)
    batch, module = batch_of(policy, tmp_path), CompletionLogprobs(policy, 1.0).eval()
    flops = Flops(policy.model)
    for backward in (False, True):
        counted = torch_counts(module, batch, backward=backward)
        ours = flops.of_pass(tokens_of(batch, module.prompts, policy.model.config), backward=backward)
        # LLaVA's tower has a class token, no patch, and a last layer (here of three) whose output nobody asks for; the
        # first layer of all that is trained hands no gradients on
        assert ours == pytest.approx(counted, rel=0.12 if backward else 0.05)
        assert architecture == "llava" or backward or ours == counted


def test_rows_with_repeated_prompts_and_padding_count_no_more(tmp_path: Path) -> None:
    policy = adapted(MODELS["llava"](), "full")
    batch = batch_of(policy, tmp_path)
    module = CompletionLogprobs(policy, 1.0, packing=False).eval()
    counted = torch_counts(module, batch, backward=True)
    tokens = tokens_of(batch, module.prompts, policy.model.config)
    assert tokens["language"] == sum(len(g.prompt_ids) for g in hard_groups(policy, tmp_path)) + batch.mask.sum()
    assert Flops(policy.model).of_pass(tokens, backward=True) < 0.85 * counted


def test_sequences_without_weight_do_not_count(tmp_path: Path) -> None:
    policy = adapted(MODELS["llava"](), "full")
    batch, module = batch_of(policy, tmp_path), CompletionLogprobs(policy, 1.0).eval()
    module(batch)
    batch.weights[:4] = 0
    tokens = tokens_of(batch, module.prompts, policy.model.config)
    (one, two, none) = hard_groups(policy, tmp_path)
    assert tokens["projector"] == two.prompt_ids.count(policy.model.config.image_token_id)
    assert tokens["head"] == batch.mask[4:].sum()
    assert tokens["language"] == len(two.prompt_ids) + len(none.prompt_ids) + tokens["head"]
    assert one.prompt_ids not in (two.prompt_ids, none.prompt_ids)


def test_an_update_counts_the_passes_of_reference_and_old_policy(tmp_path: Path) -> None:
    counts = {}
    for kl, updates in ((0.0, 1), (0.1, 1), (0.1, 2)):
        policy = adapted(MODELS["llava"](), "full")
        settings = GrpoSettings(kl=kl, updates_per_step=updates, micro_batch=64, drop_equal_groups=False)
        counts[kl, updates] = GrpoTrainer(policy, settings).step(hard_groups(policy, tmp_path))["update_tflop"]
    once = counts[0.0, 1]
    assert counts[0.1, 1] == pytest.approx(4 / 3 * once)
    assert counts[0.1, 2] == pytest.approx(5 / 3 * once)


@pytest.mark.parametrize(
    ("name", "dtype", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989.4),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756.0),
        ("NVIDIA H200", torch.bfloat16, 989.4),
        ("NVIDIA H200 NVL", torch.bfloat16, 835.5),
        ("NVIDIA A100-SXM4-80GB", torch.bfloat16, 312.0),
        ("NVIDIA H100 80GB HBM3", torch.float32, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", torch.bfloat16, None),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, None),
    ],
)
def test_peaks_are_those_of_data_sheets_or_unknown(
    name: str, dtype: torch.dtype, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured.torch.cuda, "get_device_name", lambda device: name)
    assert peak_tflops("cuda:0", dtype) == peak
    assert peak_tflops("cpu", dtype) is None


def test_utilisation_is_told_only_where_the_peak_is_known() -> None:
    known, unknown = GrpoSettings(peak_tflops=60.0), GrpoSettings()
    two = World(size=2, add=lambda tensor: None)
    policy = MODELS["llava"]()
    alone = efficiency(30.0, 2.0, known, policy, World())
    assert alone["mfu"] == pytest.approx(0.25)
    assert efficiency(30.0, 2.0, known, policy, two)["mfu"] == pytest.approx(0.125)
    assert set(efficiency(30.0, 2.0, unknown, policy, World())) == {"peak_memory_gb"}
    assert 0.1 < alone["peak_memory_gb"] < 100
