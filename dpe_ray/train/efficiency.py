"""How well the devices are used: MFU and memory."""

import resource

import torch

from dpe_ray.models.policy import LoadedPolicy
from dpe_ray.train.settings import PolicySettings
from dpe_ray.train.world import World

PEAK_TFLOPS = {
    "H200 NVL": 835.5,
    "H200": 989.4,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.0,
    "H100": 989.4,
    "A100": 312.0,
}
"""Part of a device's name -> dense bf16 TFLOPS of its tensor cores, the first that fits: NVIDIA's data sheets of A100,
H100 and H200, which give the H series with sparsity, twice as much."""


def peak_tflops(device: str, dtype: torch.dtype) -> float | None:
    """Look the peak of a device up; None where it is not known: other devices, slices of one (MIG), other dtypes."""
    if torch.device(device).type != "cuda" or dtype != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name(device)
    return None if "MIG" in name else next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def efficiency(
    tflop: float, seconds: float, settings: PolicySettings, policy: LoadedPolicy, world: World
) -> dict[str, float]:
    """Metrics of a step whose update took `seconds` for `tflop` (10^12 operations) of all ranks together.

    mfu: `tflop` by what the devices could have done meanwhile, 0-1; absent where nobody knows or says their peak.
    peak_memory_gb: 10^9 bytes, of the rank that had most. On GPUs what tensors took since the last call; on CPUs, where
    nobody counts tensors, what the process has taken so far.
    """
    device = settings.device
    peak = settings.peak_tflops or peak_tflops(device, policy.model.dtype)
    mfu = {"mfu": tflop / (seconds * world.size * peak)} if peak else {}
    return mfu | {"peak_memory_gb": world.largest(_peak_bytes(device)) / 1e9}


def _peak_bytes(device: str) -> int:
    if torch.device(device).type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak
