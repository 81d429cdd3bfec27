"""Functions that the tests of `letheon.core.parallel` call in processes of their own."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError

VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LETHEON_JOBS", "LETHEON_PRECISION")


def double(number: int) -> int:
    print("a line on standard output")
    return 2 * number


def refuse() -> None:
    raise InputError("this is refused", "give something else")


def die() -> None:
    print("the last words", file=sys.stderr)
    sys.stderr.flush()
    os._exit(9)


def variables() -> dict[str, Any]:
    return {name: os.environ.get(name) for name in VARIABLES}


def sleep(folder: str, name: str) -> None:
    (Path(folder) / name).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(60)


def forget_in(folder: str, steps: int) -> str:
    """Forget in a run folder, or continue what is there; return the hash of the weights."""
    from letheon.forget.run import forget, resume
    from letheon.testing import sample_request

    if (Path(folder) / "config.json").is_file():
        return resume(folder, device="cpu").model.parameters_hash()
    options: dict[str, Any] = {"steps": steps, "batch_size": 4, "precision": "float32", "checkpoint_steps": 1}
    return forget("tiny", sample_request(), "npo", out=folder, device="cpu", **options).model.parameters_hash()
