"""Copies of `metrics.jsonl` in a tracker that people use: trackio (local), wandb or tensorboard.

Only numbers are copied, never a row's text, and no settings. An error in a tracker ends the copy and never the run:
`metrics.jsonl` is complete without it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from letheon.core.errors import InputError
from letheon.core.variables import TRACKER

logger = logging.getLogger("letheon")

Tracker = Literal["none", "trackio", "wandb", "tensorboard"]
PROJECT = "letheon"
Log = Callable[[dict[str, float], int], None]
Close = Callable[[], None]


@dataclass(frozen=True)
class Tracking:
    """Where metrics are copied to while a run goes on.

    Attributes:
        track: also copy the numbers of metrics.jsonl to `trackio`, `wandb` or `tensorboard`; never a row's text.
    """

    track: Tracker = "none"

    def begin(self) -> None:
        """Copy the metrics of all further runs of this process and its children.

        Raises:
            InputError: the tracker is not installed.
        """
        if self.track == "none":
            return
        if find_spec(self.track) is None:
            raise InputError(f"{self.track} is not installed", f"pip install 'letheon[{self.track}]'")
        os.environ[TRACKER] = self.track

    def end(self) -> None:
        """Close the copy of the last run."""
        _open.close()


UNTRACKED = Tracking()


def copy_metrics(folder: Path, values: Mapping[str, Any]) -> None:
    """Copy one line of a run's metrics to the tracker, if there is one."""
    name = os.environ.get(TRACKER, "")
    if not name:
        return
    numbers = {key: float(value) for key, value in values.items() if _is_number(value) and key != "step"}
    try:
        if _open.folder != folder:
            _open.close()
            with redirect_stdout(sys.stderr):  # standard output is the command's own, which may be JSON
                _open.log, _open.end = _STARTS[name](folder)
            _open.folder = folder
        _open.log(numbers, int(values.get("step", 0)))
    except Exception as error:  # whatever a tracker raises must not end the run
        os.environ.pop(TRACKER)
        logger.warning("the metrics are no longer copied to %s: %s", name, str(error).splitlines()[:1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _trackio(folder: Path) -> tuple[Log, Close]:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    trackio = import_module("trackio")
    nothing_else = {"auto_log_cpu": False, "auto_log_gpu": False, "embed": False}
    trackio.init(project=PROJECT, name=_run_name(folder), resume="allow", **nothing_else)
    return (lambda numbers, step: trackio.log(numbers, step=step)), trackio.finish


def _wandb(folder: Path) -> tuple[Log, Close]:
    wandb = import_module("wandb")
    # by default it uploads the console's lines, the source with its uncommitted changes, and figures of the machine
    nothing_else = {"console": "off", "disable_git": True, "save_code": False, "disable_code": True}
    settings = wandb.Settings(**nothing_else, x_disable_stats=True, x_disable_meta=True)
    run = wandb.init(project=PROJECT, name=_run_name(folder), dir=str(folder), settings=settings)
    return (lambda numbers, step: run.log(numbers, step=step)), run.finish


def _tensorboard(folder: Path) -> tuple[Log, Close]:
    writer = import_module("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard"))

    def log(numbers: dict[str, float], step: int) -> None:
        for name, number in numbers.items():
            writer.add_scalar(name, number, step)

    return log, writer.close


def _run_name(folder: Path) -> str:
    """Name a run by the last two parts of its folder: in a comparison, method and rate."""
    return "-".join(folder.absolute().parts[-2:])


_STARTS: dict[str, Callable[[Path], tuple[Log, Close]]] = {
    "trackio": _trackio,
    "wandb": _wandb,
    "tensorboard": _tensorboard,
}


class _Open:
    """The run that is being copied."""

    folder: Path | None = None
    log: Log
    end: Close

    def close(self) -> None:
        """End the copy of a run."""
        if self.folder is not None:
            self.folder = None
            try:
                with redirect_stdout(sys.stderr):
                    self.end()
            except Exception as error:  # as above
                logger.warning("the tracker could not be closed: %s", error)


_open = _Open()
atexit.register(_open.close)
