"""The state that a procedure in two stages stores in its run, so that it continues in the stage where it was killed.

The second stage counts its steps on from the first one's, so that one `metrics.jsonl` and one `checkpoints/` serve
both. The model at the end of the first stage is saved beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from letheon.core.atomic import atomic_write_text, is_whole, read_json, write_json
from letheon.core.model.models import LanguageModel, load
from letheon.core.processes import is_main_process
from letheon.core.runs import Run
from letheon.core.training.checkpoints import checkpoints, drop_checkpoints
from letheon.core.training.loop import Loop

History = list[dict[str, float]]


def continue_stage(loop: Loop, first: int) -> None:
    """Continue from the newest checkpoint of a stage that begins after step `first`; else from its beginning."""
    loop.step, run = first, loop.run_folder
    kept = checkpoints(run) if run is not None else []
    if kept and read_json(kept[-1] / "step.json")["step"] > first:
        loop.resume()
    elif run is not None and is_main_process():
        run.keep_metrics(first)


def save_stage(model: LanguageModel, run: Run | None, name: str, history: History) -> None:
    """Save the model and the metrics at the end of a stage, and delete the stage's checkpoints."""
    if run is None or not is_main_process():
        return
    write_json(run.folder / f"{name}.json", history)
    model.save(run.folder / name)
    drop_checkpoints(run)


def load_stage(model: LanguageModel, run: Run | None, name: str) -> History | None:
    """Load the weights at the end of a stage into the model; returns the stage's metrics, None if it has not ended."""
    if run is None or not is_whole(run.folder / name):
        return None
    model.model.load_state_dict(load(run.folder / name, device="cpu").model.state_dict())
    history: History = read_json(run.folder / f"{name}.json")
    return history


class StepLines:
    """A file of JSON lines per step in a run; a continued run drops the lines of the steps that it repeats."""

    def __init__(self, run: Run | None, name: str, step: int) -> None:
        self.path: Path | None = run.folder / name if run is not None and is_main_process() else None
        self.lines: list[str] = []
        if self.path is not None and self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            self.lines = [line for line in lines if json.loads(line)["step"] <= step]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append lines; the file is replaced atomically."""
        if self.path is not None:
            self.lines += [json.dumps(row, ensure_ascii=False) for row in rows]
            atomic_write_text(self.path, "".join(f"{line}\n" for line in self.lines))
