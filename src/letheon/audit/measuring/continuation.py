"""The tasks that a model learns after a deletion, as `--after-learning` names them; see `continued_learning`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from letheon.core.atomic import plain
from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.forget.request import Request, key_of
from letheon.retain.composition import read_strategy
from letheon.retain.settings import LearnSettings
from letheon.retain.stream import Data, Stream
from letheon.retain.streams import read_stream
from letheon.retain.streams.texts import split_task

AUTO = "auto"
LEAST_ROWS = 8  # of a stream of two tasks


@dataclass(frozen=True)
class Continuation:
    """The tasks that a model learns after a deletion, and the training.

    Attributes:
        stream: tasks of text.
        strategy: `NAME[:OPTION=VALUE,...]`, several joined by `+`.
        settings: of learning; the seed is the audit's.
    """

    stream: Stream
    strategy: str = "naive"
    settings: LearnSettings = field(default_factory=lambda: LearnSettings(batch_size=8))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the record."""
        stream = self.stream
        tasks = {task.name: {"train": len(task.train), "test": len(task.test)} for task in stream}
        source = {"stream": stream.name, "source": stream.source, "rows": stream.fingerprint(), "tasks": tasks}
        return plain({**source, "strategy": self.strategy, "settings": asdict(self.settings)})


def read_continuation(
    source: str | Path, request: Request, strategy: str = "naive", settings: LearnSettings | None = None
) -> Continuation:
    """Read the stream that `--after-learning` names, and check it without a model.

    Args:
        source: a stream file as `letheon learn --stream` takes it, or `auto` (see `ordinary_stream`).

    Raises:
        InputError: no such stream, a stream of images, one that holds a forget row, or a strategy that is none.
    """
    stream = ordinary_stream(request) if str(source) == AUTO else read_stream(source)
    if not stream.is_text:
        raise InputError(f"--after-learning {source}: a stream of images", "give a TOML file of text tasks, or auto")
    composed = read_strategy(strategy)
    composed.check("texts")
    wanted = {key_of(row): row.id for row in request.forget}
    for task in stream:
        for row in rows_of(task.train, task.test):
            if key_of(row) in wanted:
                raise InputError(
                    f"--after-learning {source}, task {task.name}: row {row.id} is forget row {wanted[key_of(row)]}",
                    "take it out: what training on forgotten rows brings back is measured as relearning",
                )
    return Continuation(stream, composed.text, settings or LearnSettings(batch_size=8))


def ordinary_stream(request: Request) -> Stream:
    """Make two tasks of the request's own rows: of its general text, else of every other retain row.

    The other retain rows are measured meanwhile.

    Raises:
        InputError: there are too few rows of either kind.
    """
    name, rows = "general text", request.general
    if len(rows) < LEAST_ROWS:
        name, rows = "retain rows", request.retain[::2]
    if len(rows) < LEAST_ROWS:
        raise InputError(
            f"--after-learning auto: the request has {len(request.general)} general and {len(request.retain)} retain "
            f"rows, and a stream is made of {LEAST_ROWS} general rows or half of {2 * LEAST_ROWS - 1} retain rows",
            "give a stream file: --after-learning stream.toml",
        )
    half = len(rows) // 2
    tasks = [split_task(f"{name}, part {i}", part) for i, part in enumerate((rows[:half], rows[half:]), start=1)]
    return Stream(f"the request's {name}", tuple(tasks), "domain", AUTO)


def rows_of(*parts: Data) -> list[Example]:
    """Return the rows of those parts of a task that are text."""
    return [row for part in parts if isinstance(part, tuple) for row in part]
