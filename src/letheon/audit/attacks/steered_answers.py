"""Greedy answers under steering, many ways in one batch: each row's hidden states are changed in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.model.hooks import edit
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.rows.sampling import by_length
from letheon.core.scoring.generation import continue_ids, without_thought
from letheon.steer.positions import Positions, followed

AT_ONCE = 64  # rows


@dataclass(frozen=True)
class Way:
    """One way to steer: states z at a layer become z + shift - (z·unit) unit.

    Attributes:
        name: what it does, in words.
        layer: the block whose output is changed, from 0.
        shift: added.
        unit: the unit vector that is projected out, or zeros.
        everywhere: at every token; otherwise at the last token of the question alone.
    """

    name: str
    layer: int
    shift: Float[Tensor, " width"]
    unit: Float[Tensor, " width"]
    everywhere: bool = False


def steered_answers(model: LanguageModel, asked: Sequence[tuple[str, Way]], limit: int) -> list[str]:
    """Decode greedy answers to questions, each steered in its own way; many ways share a batch."""
    rows = [model.encoder().prompt(prompt) for prompt, _ in asked]
    answers = [""] * len(asked)
    for chosen in by_length([len(row) for row in rows], AT_ONCE):
        with _steered(model, [asked[i][1] for i in chosen]):
            found = continue_ids(model, [rows[i] for i in chosen], limit, batch_size=len(chosen))
        for i, ids in zip(chosen, found, strict=True):
            answers[i] = without_thought(model.tokenizer.decode(ids, skip_special_tokens=True))
    return answers


@contextmanager
def _steered(model: LanguageModel, ways: Sequence[Way]) -> Iterator[None]:
    """Steer each row of a batch in its own way while the block runs; rows stand in the batch's order."""
    everywhere = torch.tensor([[way.everywhere] for way in ways])

    def change(layer: int, positions: Positions) -> Callable[[Tensor], Tensor]:
        here = torch.tensor([[float(way.layer == layer)] for way in ways])
        shifts, units = (
            torch.stack(vectors) * here for vectors in zip(*((w.shift, w.unit) for w in ways), strict=True)
        )

        def changed(states: Float[Tensor, "rows length width"]) -> Tensor:
            shift, unit = shifts.to(states)[:, None], units.to(states)[:, None]
            where = everywhere.to(states.device) | positions.masks["last"]
            moved = shift - (states * unit).sum(-1, keepdim=True) * unit
            return states + moved * where[..., None]

        return changed

    with followed(model.base()) as positions:
        edits = {Site(layer): change(layer, positions) for layer in {way.layer for way in ways}}
        with edit(model.base(), edits):
            yield
