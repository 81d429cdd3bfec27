"""`letheon doctor`: examine this machine and environment: versions, speed, cached models, extras."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec
from typing import Any

import torch

from letheon.core.atomic import is_whole
from letheon.core.hardware import matmul_speed, resolve_precision
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
}
# GFLOP of the demo: teaching, reference and forgetting run about 115 steps of 8 rows; the rest is generation.
DEMO_GFLOP = 115 * 8 * 45 * 0.81


def examine() -> dict[str, Any]:
    """Return everything that `letheon doctor` shows; takes about a second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    speeds = {
        "float32": round(matmul_speed(torch.float32, device), 1),
        "bfloat16": round(matmul_speed(torch.bfloat16, device), 1),
    }
    precision = resolve_precision("auto", torch.device(device))
    cached = cache_folder()
    return {
        "versions": versions(),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gflops": speeds,
        "precision": precision,
        "demo_minutes": round(2.5 * DEMO_GFLOP / speeds[precision] / 60 + 1, 1),
        "advice": _advice(torch.get_num_threads()),
        "cache": {"folder": str(cached), "models": _cached_models()},
        "disk_free_gb": round(shutil.disk_usage(cached if cached.exists() else cached.parent.parent).free / 1e9, 1),
        "extras": {name: {"installed": find_spec(name) is not None, "unlocks": what} for name, what in EXTRAS.items()},
    }


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
    if threads > cores:
        advice.append(f"{threads} threads on {cores} cores: set OMP_NUM_THREADS={cores}")
    return advice
