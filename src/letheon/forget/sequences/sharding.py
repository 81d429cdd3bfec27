"""SISA: train separately on shards, in slices with checkpoints, so that a row can be removed exactly.

Paper:   Bourtoule et al., Machine Unlearning, arXiv 1912.03817: a model a shard; a shard is trained slice after slice,
         each time on all of its slices so far; a deletion goes back to the checkpoint before the row's slice and trains
         on from there; predictions are the mean of the shards' probabilities.
Differs: a constituent is a LoRA adapter (or all weights) on one common base, which must never have seen the rows.
         Which shard and slice a row belongs to depends on its own text and the seed only, so removing one row moves no
         other. The order of rows within a slice's training is drawn anew for the rows that are left.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.atomic import canonical_hash, is_whole, read_json, write_json
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.registry import Checked
from letheon.core.rows.examples import Example, parse_rows
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request, row_of


@dataclass(frozen=True)
class ShardSettings(Checked, positive=("shards", "slices", "epochs")):
    """Settings of the division into shards and slices, and of the training.

    Attributes:
        base: the model that every shard begins from; it never saw the rows.
        shards: number of models, each of which learns its part of the rows.
        slices: number of parts in which a shard's rows are added; a checkpoint lies between them.
        scope: which weights a constituent has of its own: `lora`, `everything`, ...
        epochs: passes over the rows so far, after each slice is added.
    """

    base: str
    shards: int = 4
    slices: int = 2
    epochs: int = 4
    scope: str = "lora"
    seed: int = 0


class Sharded:
    """The constituents in a folder: `shard-i/slice-j/` holds a shard's weights after its slices 0 to j.

    `Sharded.train(...)` makes it, `Sharded(folder)` opens it, `forget(rows)` removes rows exactly.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        content = read_json(folder / "sharded.json")
        self.folder, self.device = folder, device
        self.settings = ShardSettings(**content["settings"])
        self.training = TrainSettings(**content["training"])
        self.rows = parse_rows(content["rows"], str(folder / "sharded.json")) if content["rows"] else []

    @classmethod
    def train(
        cls,
        rows: Sequence[Example],
        folder: Path,
        settings: ShardSettings,
        training: TrainSettings | None = None,
        device: str = "auto",
    ) -> Sharded:
        """Train every shard; after a kill the same call trains what is missing.

        Raises:
            InputError: the folder holds a whole sharded model or another one, or there is no such scope.
        """
        training = training or TrainSettings()
        Recipe.parse(f"gradient_ascent@{settings.scope}")
        if (folder / "sharded.json").exists():
            made = cls(folder, device)
            same = (made.settings, made.training, _texts(made.rows)) == (settings, training, _texts(rows))
            if made.missing() is None or not same:
                raise InputError(f"{folder} holds a sharded model", "open it, or choose another folder")
        else:
            _write(folder, settings, training, rows)
            made = cls(folder, device)
        made.bring_all_up()
        return made

    def missing(self) -> tuple[int, int] | None:
        """The first shard and slice without weights, because training or a deletion was killed; None if all have."""
        every = product(range(self.settings.shards), range(self.settings.slices))
        return next((place for place in every if not is_whole(self._folder(*place))), None)

    def rows_without(self, rows: Sequence[Example]) -> list[Example]:
        """The rows that are left without some."""
        gone = set(_texts(rows))
        return [row for row in self.rows if (row.prompt, row.answer) not in gone]

    def check(self, rows: Sequence[Example]) -> None:
        """Refuse rows that no shard has (`InputError`)."""
        known = set(_texts(self.rows))
        strange = next((row for row in rows if (row.prompt, row.answer) not in known), None)
        if strange is not None:
            raise InputError(f"no shard has the row {strange.prompt[:60]!r}", "give rows as they were trained on")

    def place(self, row: Example) -> tuple[int, int]:
        """Shard and slice of a row."""
        number = stream_seed(self.settings.seed, canonical_hash([row.prompt, row.answer]))
        return number % self.settings.shards, number // self.settings.shards % self.settings.slices

    def forget(self, rows: Sequence[Example]) -> dict[int, int]:
        """Remove rows exactly; returns for each shard that had some the first slice that was trained again.

        What a killed training or deletion left undone is done first; a deletion that was killed ends with that.

        Raises:
            InputError: a row that no shard has; nothing has changed.
        """
        gone, known = set(_texts(rows)), set(_texts(self.rows))
        begun = self.missing()
        if begun is None or gone & known:
            self.check(rows)
        self.bring_all_up()
        if begun is not None and not gone & known:
            return dict([begun])
        first: dict[int, int] = {}
        for row in rows:
            shard, slice_ = self.place(row)
            first[shard] = min(slice_, first.get(shard, slice_))
        for shard, slice_ in first.items():  # before the list of rows changes: a killed deletion is done again
            for later in range(slice_, self.settings.slices):
                shutil.rmtree(self._folder(shard, later))
        self.rows = self.rows_without(rows)
        _write(self.folder, self.settings, self.training, self.rows)
        for shard in first:
            self.bring_up(shard)
        return first

    def bring_all_up(self) -> None:
        """Train the missing slices of every shard."""
        for shard in range(self.settings.shards):
            self.bring_up(shard)

    def bring_up(self, shard: int) -> None:
        """Train a shard's missing slices."""
        for slice_ in range(self.settings.slices):
            if is_whole(self._folder(shard, slice_)):
                continue
            model = load(self._folder(shard, slice_ - 1) if slice_ else self.settings.base, device=self.device)
            scope = Recipe.parse(f"gradient_ascent@{self.settings.scope}").scope.make()
            rows = [row for row in self.rows if self.place(row) <= (shard, slice_) and self.place(row)[0] == shard]
            if rows:
                parameters = scope.select(model, Request(forget=tuple(rows)))
                steps = self.settings.epochs * math.ceil(len(rows) / self.training.batch_size)
                title = f"shard {shard + 1}/{self.settings.shards}, slice {slice_ + 1}/{self.settings.slices}"
                finetune(model, rows, self.training, steps, parameters=parameters, title=title)
            model.save(self._folder(shard, slice_))

    def constituents(self) -> list[LanguageModel]:
        """The shards' models.

        Raises:
            InputError: a shard lacks a slice, because training or a deletion was killed.
        """
        place = self.missing()
        if place is not None:
            problem = f"{self.folder}: shard {place[0]} has no slice {place[1]}: training or a deletion was stopped"
            raise InputError(problem, "give the same letheon sisa train or forget again")
        last = self.settings.slices - 1
        return [load(self._folder(shard, last), device=self.device) for shard in range(self.settings.shards)]

    def _folder(self, shard: int, slice_: int) -> Path:
        return self.folder / f"shard-{shard}" / f"slice-{slice_}"


def ensemble_probability(
    models: Sequence[LanguageModel], questions: Sequence[tuple[str, str]]
) -> list[Float[Tensor, " tokens"]]:
    """For each (prompt, answer): the mean of the models' probabilities of each token of the answer."""
    asked = [(prompt, [answer]) for prompt, answer in questions]
    scored = [[torch.as_tensor(row[0].logp).exp() for row in score_answers(model, asked)] for model in models]
    return [torch.stack(row).mean(0) for row in zip(*scored, strict=True)]


def _texts(rows: Sequence[Example]) -> list[tuple[str, str]]:
    return [(row.prompt, row.answer) for row in rows]


def _write(folder: Path, settings: ShardSettings, training: TrainSettings, rows: Sequence[Example]) -> None:
    stored = [row_of(row) for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "sharded.json", {"settings": asdict(settings), "training": asdict(training), "rows": stored})
