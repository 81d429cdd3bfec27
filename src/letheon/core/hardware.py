"""Measurements and settings of this machine: speed of matrix products, precision, memory allocation."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from torch import nn

from letheon.core.training.settings import Precision
from letheon.core.variables import JOBS, PRECISION, THREADS

logger = logging.getLogger("letheon")
SMALL = 1_000_000  # weights of a model whose products are too small to share between threads
_more_threads: list[int] = []  # the number before a tiny model took one thread


@lru_cache(maxsize=8)
def matmul_speed(dtype: torch.dtype, device: str = "cpu", seconds: float = 0.1) -> float:
    """Measure GFLOP/s of matrix products as in SmolLM2's MLP at 512 tokens; the fastest tenth of the time counts.

    On a processor the calling thread's own time counts: beside other work the wall's, in which others run too, made the
    precision of a run a matter of chance, and with it every figure.
    """
    clock = time.thread_time if torch.device(device).type == "cpu" else time.perf_counter
    tokens, width, inner = 512, 576, 1536
    left, right = (torch.randn(shape, device=device).to(dtype) for shape in ((tokens, width), (inner, width)))
    operations = 2 * tokens * width * inner
    torch.nn.functional.linear(left, right)
    synchronize(torch.device(device))
    best, end = 0.0, clock() + seconds
    while (start := clock()) < end:
        products, spent = 0, 0.0
        while spent < seconds / 10:  # some clocks of threads go by ticks of a sixtieth of a second
            torch.nn.functional.linear(left, right)
            synchronize(torch.device(device))
            products, spent = products + 1, clock() - start
        best = max(best, products * operations / spent / 1e9)
    return best


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Resolve `auto` to bfloat16 on a GPU that supports it, or on a processor where it is measured to be faster.

    Support by the instruction set is not enough: on some processors bfloat16 products run at half the speed.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if device.type == "mps" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "float32"  # mps lacks bfloat16 products in places; processes that each measure may disagree
    if device.type == "xpu":
        return "bfloat16" if torch.xpu.is_bf16_supported() else "float32"
    if os.environ.get(PRECISION) in ("float32", "bfloat16"):
        return "bfloat16" if os.environ[PRECISION] == "bfloat16" else "float32"
    faster = matmul_speed(torch.bfloat16) > 1.25 * matmul_speed(torch.float32)
    return "bfloat16" if faster else "float32"


def budget_clock(device: str = "auto") -> Callable[[], float]:
    """Return the clock that time budgets are counted by, in seconds.

    It is the wall's for a run that is alone or on an accelerator. Where several runs share the processor it is the
    processor time of the calling thread, which works through every operation, alone or beside others: so a run pays
    neither for what the others do nor for threads of its own that stand idle. Time in which the thread waits, for a
    file or for its own helpers, is not counted.
    """
    several = int(os.environ.get(JOBS, "1")) > 1
    if several and (device == "cpu" or (device == "auto" and not torch.accelerator.is_available())):
        return time.thread_time
    return time.monotonic


def threads_are_set() -> bool:
    """Return whether the user chose the number of threads (OMP_NUM_THREADS)."""
    return "OMP_NUM_THREADS" in os.environ and THREADS not in os.environ


def fit_threads(weights: int) -> int:
    """Set the number of threads by the size of a model, and return it: one for a tiny model, else torch's own number.

    The products of a tiny model take less time than waking a thread does. A number that the user set stays.

    Args:
        weights: number of the model's weights.
    """
    threads = torch.get_num_threads()
    if weights < SMALL and threads > 1 and not threads_are_set():
        _more_threads.append(threads)
        torch.set_num_threads(1)
    elif weights >= SMALL and threads == 1 and _more_threads:
        torch.set_num_threads(_more_threads[0])
    if weights >= SMALL:
        _more_threads.clear()
    return torch.get_num_threads()


def suit(model: nn.Module) -> None:
    """Choose the number of threads and the attention for a model that was loaded; say once what its device lacks."""
    fit_threads(sum(weight.numel() for weight in model.parameters()))
    if next(model.parameters()).device.type == "mps":
        _say_mps()
    if not torch.accelerator.is_available():
        _share_heads()


def _share_heads() -> None:
    """Let masked attention read the keys and values that query heads share as they stand, as its CPU kernel can.

    By default transformers copies them for each query head, since on a GPU a mask would exclude the fast kernel. Values
    are the same bit for bit, gradients but for the order of sums.
    """
    os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", "1")


@lru_cache(maxsize=1)
def _say_mps() -> None:
    fallback = os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK") == "1"
    rest = "the processor does what mps lacks" if fallback else "PYTORCH_ENABLE_MPS_FALLBACK is off"
    logger.warning("device mps: products are float32, and %s", rest)


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has done its work, so that a time can be taken."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


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
