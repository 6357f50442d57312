"""A GRPO step on one GPU: samples a second and MFU, with and without the shared prefix, and of TRL's GRPOTrainer.

    python benchmarks/gpu_step.py                  # Qwen2.5-VL-3B's shape, bf16, gradient checkpointing
    python benchmarks/gpu_step.py --device cpu --shape tiny --prompt 60 --sampled 4 --group 2 --pairs 1

Random weights, all of them trained; 1,024 picture tokens, 256 sampled ones, groups of 8. First both forms of the update
are compared in float32 on a model of the same widths with two layers, then the arms run one after the other, each with
the card to itself. Seconds are medians by the clock. `mfu` counts every token once (`dpe_ray.train.flops`), also for
the arms that compute prompts again and again, so that it compares; sampling is not in it.
"""

import argparse
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import common
import torch
from against_trl import Ours, Seconds, Setting, Watch, trl_trainer
from shared_prefix import SHAPES, Shape, qwen, random_groups

from dpe_ray.train.efficiency import peak_tflops
from dpe_ray.train.settings import GrpoSettings
from dpe_ray.train.trainer import GrpoTrainer

FORMS = ("auto", "off")
TOLERANCE = 1e-4
"""Of the norm of all gradients, in float32, between both forms."""


def main() -> None:
    """Compare, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--prompt", type=int, default=1_048, help="tokens; 1,024 of 1,048 are the picture's")
    parser.add_argument("--sampled", type=int, default=256)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--groups", type=int, default=4, help="per step")
    parser.add_argument("--pairs", type=int, default=3, help="steps that count")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    setting = Setting(**vars(args), checkpointing=True)
    off = difference(setting)
    print(f"float32, two layers: gradient norms of both forms differ by {off:.1e}", flush=True)
    if off > TOLERANCE:
        raise SystemExit("the forms are not equal: no figure of theirs means anything")
    with number_format(torch.bfloat16, setting.device):
        rows: list[dict[str, Any]] = []
        for form in FORMS:
            with alone(setting.device):
                rows.append(ours(setting, form))
        with alone(setting.device):
            rows.append(trl(setting, rows[0]["update tflop"]))
    print(common.table(list(rows[0]), [list(row.values()) for row in rows]))
    name = torch.cuda.get_device_name() if setting.device == "cuda" else setting.device
    common.write("gpu_step", {"device": name, "setting": asdict(setting), "float32 difference": off, "rows": rows})


def difference(setting: Setting) -> float:
    """Relative difference of the gradients' norm between the forms, in float32 and in two layers."""
    shape = SHAPES[setting.shape]
    two = {"num_hidden_layers": 2}, {"depth": 2, "fullatt_block_indexes": [1]}
    sizes = Shape(shape.text | two[0], shape.tower | two[1], shape.sections)
    groups = random_groups(setting.prompt, setting.sampled, setting.group, 1, setting.seed)
    norms = []
    for form in FORMS:
        with number_format(torch.float32, setting.device):
            policy = qwen(setting.prompt, setting.seed, sizes)
        settings = GrpoSettings(tuning="full", lr=1e-6, kl=0.0, shared_prefix=form, device=setting.device)
        norms.append(GrpoTrainer(policy, settings).step(groups)["grad_norm"])
    return abs(norms[0] - norms[1]) / norms[1]


def ours(setting: Setting, form: str) -> dict[str, Any]:
    """One arm of ours."""
    side = Ours(qwen(setting.prompt, setting.seed, SHAPES[setting.shape]), setting, form)
    steps = [side.step() for _ in range(setting.pairs + 1)][1:]
    return told(setting, {"auto": "shared prefix", "off": "plain"}[form], steps, side.metrics["update_tflop"])


def trl(setting: Setting, tflop: float) -> dict[str, Any]:
    """TRL's arm; it makes the same update, so it needs the same operations at the least."""
    steps: list[Seconds] = []
    with TemporaryDirectory() as folder:
        trainer = trl_trainer(qwen(setting.prompt, setting.seed, SHAPES[setting.shape]).model, folder, setting)
        trainer.add_callback(Watch(trainer, setting, steps.append))
        trainer.train()
    return told(setting, "TRL", steps[1:], tflop)


def told(setting: Setting, arm: str, steps: list[Seconds], tflop: float) -> dict[str, Any]:
    """One row of the table."""
    samples = setting.group * setting.groups
    update, step = (median(seconds[part] for seconds in steps) for part in ("update", "step"))
    peak = peak_tflops(setting.device, torch.bfloat16)
    row = {"arm": arm, "update s": update, "update samples/s": samples / update, "update tflop": tflop}
    row |= {"update mfu": tflop / update / peak} if peak else {}
    row |= {"step s": step, "step samples/s": samples / step}
    if setting.device == "cuda":
        row["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
    return row


@contextmanager
def alone(device: str) -> Iterator[None]:
    """Give an arm the card without what the one before it left."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield


@contextmanager
def number_format(dtype: torch.dtype, device: str) -> Iterator[None]:
    """Make models in this number format, where they are to be."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


if __name__ == "__main__":
    main()
