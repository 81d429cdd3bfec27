"""`letheon sisa`: train shards from which rows can be removed exactly, remove rows, ask the shards together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from letheon.core.atomic import check_writable
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable
from letheon.core.rows.examples import Example, read_examples
from letheon.core.training.settings import TrainSettings
from letheon.forget.recipe import Recipe
from letheon.forget.sequences.sharding import Sharded, ShardSettings, ensemble_probability

FILE = "sharded.json"


@dataclass(frozen=True)
class TrainShards:
    """Shards to be trained on rows.

    Attributes:
        shape: fields of `ShardSettings` that were given.
        training: fields of `TrainSettings` that were given.
    """

    base: str
    rows: str
    out: Path
    shape: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"

    def checked(self) -> tuple[list[Example], ShardSettings, TrainSettings]:
        """Read rows and settings, and refuse everything that can be refused before a model is loaded."""
        training = TrainSettings(**self.training)
        settings = ShardSettings(self.base, **{**self.shape, "seed": training.seed})
        Recipe.parse(f"gradient_ascent@{settings.scope}")
        check_loadable(self.base)
        if (self.out / FILE).exists() and Sharded(self.out).missing() is None:
            raise InputError(f"{self.out} holds a sharded model", "choose another --out")
        check_writable(self.out)
        return read_examples(self.rows), settings, training

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        rows, settings, training = self.checked()
        return {"rows": len(rows), "shards": vars(settings), "training": vars(training), "out": str(self.out)}

    def work(self) -> dict[str, Any]:
        """Train every shard and return how many rows each has."""
        rows, settings, training = self.checked()
        made = Sharded.train(rows, self.out, settings, training, self.device)
        shards = [made.place(row)[0] for row in made.rows]
        return {"rows of each shard": [shards.count(number) for number in range(settings.shards)], "out": str(self.out)}


@dataclass(frozen=True)
class _OnShards:
    """Rows for the shards in a folder."""

    folder: Path
    rows: str
    device: str = "auto"

    def opened(self) -> Sharded:
        """The shards; `InputError` if there are none."""
        if not (self.folder / FILE).is_file():
            raise InputError(f"{self.folder} holds no shards", "give the --out folder of letheon sisa train")
        return Sharded(self.folder, self.device)


@dataclass(frozen=True)
class ForgetRows(_OnShards):
    """Rows to be removed from shards exactly."""

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        made, gone = self.opened(), read_examples(self.rows)
        if made.missing() is None:
            made.check(gone)
        places = sorted({made.place(row) for row in gone})
        return {
            "rows": len(gone),
            "shard and slice of the rows": places,
            "rows that are left": len(made.rows_without(gone)),
        }

    def work(self) -> dict[str, Any]:
        """Remove the rows, and return the first slice of each shard that was trained again."""
        made = self.opened()
        again = made.forget(read_examples(self.rows))
        told = [f"shard {shard} from slice {slice_}" for shard, slice_ in sorted(again.items())]
        return {"trained again": told, "rows that are left": len(made.rows)}


@dataclass(frozen=True)
class AskShards(_OnShards):
    """Rows whose answers' probabilities are read from the shards together."""

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be done."""
        self.opened()
        return {"rows": len(read_examples(self.rows)), "shards": str(self.folder)}

    def work(self) -> dict[str, Any]:
        """Return the answers' probabilities, exp of the mean over tokens of the log of the shards' mean probability."""
        rows = read_examples(self.rows)
        models = self.opened().constituents()
        found = ensemble_probability(models, [(row.prompt, row.answer) for row in rows])
        values = [float(tokens.log().mean().exp()) for tokens in found]
        return {"probability": [round(value, 6) for value in values], "mean": round(fmean(values), 6)}
