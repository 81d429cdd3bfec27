"""All figures of an accelerator in one table: matrix products, steps of forgetting with their memory, an audit.

    python -m benchmarks.gpu [--model smollm2] [--device auto] [--steps 10] [--minutes 10] [--out gpu.md] [--json]

Each way to forget runs on the benchmarks' eight rows about invented authors. A step's time is the median over the steps
after the first; memory is the most that was allocated on the device. What does not fit into the minutes, or is not
installed, is named and left out. Without an accelerator everything runs on the processor, whose memory is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import author_rows
from letheon.audit.run import audit
from letheon.core.atomic import atomic_write_text
from letheon.core.devices import check_device
from letheon.core.errors import LetheonError
from letheon.core.hardware import matmul_speed, synchronize
from letheon.core.model.models import LanguageModel, load
from letheon.core.progress import be_quiet
from letheon.forget.request import Request
from letheon.forget.run import forget

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "npo": ("npo", {}),
    "npo, gradient checkpointing": ("npo", {"gradient_checkpointing": True}),
    "npo, products in bfloat16": ("npo", {"precision": "bfloat16"}),
    "npo, weights in bfloat16": ("npo", {"base": "bfloat16"}),
    "npo, offload": ("npo", {"offload": True}),
    "npo, moments in 8 bits": ("npo", {"optimizer": "adamw8bit"}),
    "npo, weights in bfloat16, offload": ("npo", {"base": "bfloat16", "offload": True}),
    "npo+geometric": ("npo+geometric", {}),
    "npo@lora": ("npo@lora", {}),
    "npo@lora, base in bfloat16": ("npo@lora", {"base": "bfloat16"}),
    "npo@lora, base in 4 bits": ("npo@lora", {"base": "4bit"}),
    "rmu": ("rmu", {}),
}
Line = tuple[str, str]


def request() -> Request:
    """Return the request of every run: four rows are forgotten and four retained."""
    rows = author_rows()
    return Request(forget=tuple(rows[:4]), retain=tuple(rows[4:]))


def speeds(device: str) -> list[Line]:
    """Measure matrix products."""
    return [
        (f"matrix products, {name}", f"{matmul_speed(kind, device):,.0f} GFLOP/s")
        for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    ]


def steps(model: str, device: str, method: str, options: dict[str, Any], count: int) -> str:
    """Measure the seconds of a step, and the most memory on the device."""
    place, ends = torch.device(device), []
    counts = place.type in ("cuda", "xpu")
    if counts:
        torch.get_device_module(place).reset_peak_memory_stats()

    def on_step(_: LanguageModel, __: int) -> None:
        synchronize(place)
        ends.append(time.perf_counter())

    settings = {"precision": "float32", "steps": count, "batch_size": 4, "learning_rate": 1e-6, **options}
    forget(model, request(), method, device=device, on_step=on_step, **settings)
    taken = statistics.median(after - before for before, after in itertools.pairwise(ends))
    memory = torch.get_device_module(place).max_memory_allocated() / 2**30 if counts else None
    return f"{1000 * taken:,.1f} ms per step" + (f", {memory:.2f} GiB" if memory is not None else "")


def audited(model: str, device: str) -> str:
    """Measure a quick audit of a model against itself."""
    start = time.perf_counter()
    audit(model, load(model, device=device), request(), device=device, quick=True)
    return f"{time.perf_counter() - start:,.1f} s"


def figures(model: str, device: str, count: int, minutes: float) -> list[Line]:
    """Measure everything that fits into the minutes."""
    end = time.monotonic() + 60 * minutes
    lines = [("device", _name(device)), ("model", model), ("torch", torch.__version__), *speeds(device)]
    work: dict[str, Callable[[], str]] = {
        name: lambda method=method, options=options: steps(model, device, method, options, count)  # type: ignore[misc]
        for name, (method, options) in WAYS.items()
    }
    work["quick audit"] = lambda: audited(model, device)
    for name, measure in work.items():
        if time.monotonic() > end:
            lines.append((name, "left out: the time was up"))
            continue
        try:
            lines.append((name, measure()))
        except (LetheonError, torch.OutOfMemoryError) as error:
            lines.append((name, f"left out: {str(error).splitlines()[0]}"))
        print(f"{lines[-1][0]}: {lines[-1][1]}", file=sys.stderr, flush=True)
    return lines


def _name(device: str) -> str:
    kind = torch.device(device).type
    return str(torch.get_device_module(kind).get_device_name()) if kind in ("cuda", "xpu") else kind


def main() -> None:
    """Print the table, and write it where that was asked for."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--model", default="smollm2", help="smollm2 (default), tiny, an id or a folder")
    options.add_argument("--device", default="auto", help="auto (default), cuda, xpu, mps or cpu")
    options.add_argument("--steps", type=int, default=10, help="steps of each run, 2 or more (default 10)")
    options.add_argument("--minutes", type=float, default=10, help="no run begins later (default 10)")
    options.add_argument("--out", type=Path, help="file for the table")
    options.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    chosen = options.parse_args()
    be_quiet()
    lines = figures(chosen.model, check_device(chosen.device), chosen.steps, chosen.minutes)
    text = "\n".join(["| figure | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in lines)])
    if chosen.out:
        atomic_write_text(chosen.out, text + "\n")
    print(json.dumps(dict(lines)) if chosen.json else text)


if __name__ == "__main__":
    main()
