"""The history of a paper's runs: those of the queue, and those in the folders that were named at the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from letheon.page.outcomes import read_outcome
from letheon.page.queue import Queue
from letheon.papers.catalogue import is_current

MOST = 20


@dataclass(frozen=True)
class Past:
    """One run of a paper: when, how it ended, how long it took, and where it is.

    Attributes:
        current: whether the present rule judged it.
        model: the user's model that was measured; empty for the paper's own.
    """

    when: str
    state: str
    seconds: float
    seeds: int | None
    address: str = ""
    place: str = ""
    current: bool = True
    model: str = ""


def history_of(key: str, queue: Queue, folders: Sequence[Path]) -> list[Past]:
    """The runs of a paper, newest first: of the queue, and `KEY/outcome.json` or `outcome.json` in the folders."""
    past = []
    for run in queue.runs("paper", key)[:MOST]:
        outcome = run.outcome()
        state = outcome["verdict"] if outcome and run.state == "done" else run.state
        seeds = len(outcome["seeds"]) if outcome else None
        current = outcome is None or is_current(outcome)
        when = run.created.replace("T", " ").rstrip("Z")
        past.append(Past(when, state, run.seconds, seeds, f"/runs/{run.id}", current=current, model=run.model))
    for folder in folders:
        for place in (folder, folder / key, folder / "letheon-papers" / key):
            outcome = read_outcome(place, folder)
            if outcome is not None and outcome["key"] == key:
                made = datetime.fromtimestamp((place / "outcome.json").stat().st_mtime, UTC)
                seeds, seconds = len(outcome["seeds"]), float(outcome["seconds"])
                when, current, model = f"{made:%Y-%m-%d %H:%M:%S}", is_current(outcome), outcome.get("model", "")
                past.append(Past(when, outcome["verdict"], seconds, seeds, "", str(place), current, model))
    return sorted(past, key=lambda one: one.when, reverse=True)[:MOST]
