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
