"""Measurements and settings of this machine: speed of matrix products, precision, memory allocation."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from functools import lru_cache
from typing import Literal

import torch

from letheon.core.training.settings import Precision


@lru_cache(maxsize=8)
def matmul_speed(dtype: torch.dtype, device: str = "cpu", seconds: float = 0.1) -> float:
    """Measure GFLOP/s of matrix products of the size of SmolLM2's MLP at 512 tokens; the best batch counts."""
    tokens, width, inner = 512, 576, 1536
    left, right = (torch.randn(shape, device=device).to(dtype) for shape in ((tokens, width), (inner, width)))
    operations = 2 * tokens * width * inner
    torch.nn.functional.linear(left, right)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(4):
            torch.nn.functional.linear(left, right)
        if device != "cpu":
            torch.cuda.synchronize()
        best = max(best, 4 * operations / (time.perf_counter() - start) / 1e9)
    return best


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Resolve `auto` to bfloat16 on a GPU that supports it, or on a processor where it is measured to be faster.

    Support by the instruction set is not enough: on some processors bfloat16 products run at half the speed.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "float32"  # processes that each measure may disagree
    faster = matmul_speed(torch.bfloat16) > 1.25 * matmul_speed(torch.float32)
    return "bfloat16" if faster else "float32"


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Make glibc reuse freed pages instead of mapping new ones for every large tensor; return whether it worked."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        mmap_threshold, trim_threshold, gigabyte = -3, -1, 1 << 30
        return bool(libc.mallopt(mmap_threshold, gigabyte) and libc.mallopt(trim_threshold, 2 * gigabyte - 1))
    except OSError:
        return False
