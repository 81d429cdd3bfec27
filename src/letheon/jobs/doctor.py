"""`letheon doctor`: examine this machine and environment: versions, speed, cached models, extras."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec
from typing import Any

import torch

from letheon.core.atomic import is_whole
from letheon.core.devices import check_device
from letheon.core.hardware import matmul_speed, resolve_precision, threads_are_set
from letheon.core.model.models import cache_folder
from letheon.core.runs import versions

# package -> what it makes possible
EXTRAS = {
    "trl": "reinforcement (GRPO)",
    "diffusers": "memorised images",
    "sae_lens": "public sparse autoencoders",
    "curvlinops": "Kronecker factors",
    "lm_eval": "general benchmarks",
    "openai": "models behind an OpenAI-compatible address",
    "sqlite_vec": "memory with vectors",
    "cryptography": "signed records",
    "fastapi": "the page of papers",
    "ray": "many runs on a cluster",
    "trackio": "metrics in a local dashboard",
    "wandb": "metrics in Weights & Biases",
    "tensorboard": "metrics in TensorBoard",
    "bitsandbytes": "4-bit weights under an adapter",
}
# GFLOP of the demo: teaching, reference and forgetting run about 115 steps of 8 rows; the rest is generation.
DEMO_GFLOP = 115 * 8 * 45 * 0.81


def examine() -> dict[str, Any]:
    """Return everything that `letheon doctor` shows; takes about a second."""
    device = check_device("auto").partition(":")[0]
    speeds = {
        "float32": round(matmul_speed(torch.float32, device), 1),
        "bfloat16": round(matmul_speed(torch.bfloat16, device), 1),
    }
    precision = resolve_precision("auto", torch.device(device))
    cached = cache_folder()
    return {
        "versions": versions(),
        "device": _device_name(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "threads_tiny": 1 if torch.get_num_threads() == 1 or not threads_are_set() else torch.get_num_threads(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", "").lower() or "the library's own",
        "gflops": speeds,
        "precision": precision,
        "demo_minutes": round(2.5 * DEMO_GFLOP / speeds[precision] / 60 + 1, 1),
        "advice": _advice(torch.get_num_threads()),
        "cache": {"folder": str(cached), "models": _cached_models()},
        "disk_free_gb": round(shutil.disk_usage(cached if cached.exists() else cached.parent.parent).free / 1e9, 1),
        "extras": {name: {"installed": find_spec(name) is not None, "unlocks": what} for name, what in EXTRAS.items()},
    }


def _device_name(device: str) -> str:
    if device in ("cuda", "xpu"):
        return str(torch.get_device_module(device).get_device_name())
    return f"{platform.processor() or platform.machine()}{', mps' if device == 'mps' else ''}"


def _cached_models() -> list[str]:
    folder = cache_folder()
    return sorted(entry.name for entry in folder.iterdir() if is_whole(entry)) if folder.is_dir() else []


def _advice(threads: int) -> list[str]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = os.cpu_count() or 1
    advice = []
    if load > 0.5 * cores:
        advice.append(
            f"another process uses the cores (load {load:.1f} of {cores}): everything will be several times slower"
        )
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        advice.append("OMP_WAIT_POLICY=ACTIVE: waiting threads burn a core each; unset it unless the machine is yours")
    if threads > cores:
        advice.append(f"{threads} threads on {cores} cores: set OMP_NUM_THREADS={cores}")
    return advice
