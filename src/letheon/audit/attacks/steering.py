"""Steering: take directions out of the hidden states that the deletion may have added; does the model answer again?

Two directions are tried at a few layers. The *deletion direction* is the mean difference, at the last token of the
question, between the states of the model before and those of the attacked model: added back. The *refusal direction* is
the mean difference between the attacked model's states on forget questions and on retained questions, less the same of
the model before, which knows both: subtracted, and projected out. A model that has only learned to refuse, or to say
something else, computes the facts still and lacks the switch.

Each direction is a mean over rows of other folds than the row that is asked, so that it does not carry the asked fact.
A row counts as recovered if any of its steered answers gives the fact. Controls:

- The directions of the model before are zero. It is therefore attacked behind a *planted shift*: a random vector of
  four times the length of its states is added at the first of the layers, which no model answers through. The attack
  must estimate that shift and take it out again; where it cannot, it is uninformative.
- A model that never saw the rows has directions of its own. They must not bring the facts.
- Rows that come back are asked again in the same way along *random directions* of the same lengths (a variant of the
  attack): what comes back there as well was hidden loosely, and not behind these directions.

Source: the refusal direction and its removal, Arditi et al., arXiv 2406.11717; activation patching of deleted facts,
        Patil et al., arXiv 2309.17410.
Differs: means over folds; the contrast with the model before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.audit.attacks.base import MeasuredAttack, Tried, Variant
from letheon.audit.attacks.steered_answers import Way, steered_answers
from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.plan import STEERED_RETAIN, AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.statistics import estimate_mean
from letheon.probe.linear_probes import token_states
from letheon.steer.apply import steered
from letheon.steer.maps import Displacement
from letheon.steer.steering import Shape, Steering

# Layers at which directions are tried, as shares of the depth.
DEPTHS = (0.35, 0.65)
FEW = 6
LEAST = 2  # forget questions, and retained ones
# States that differ by less than this share are those of the same model.
NO_SHIFT = 1e-4
PLANTED = 4.0  # length of the planted shift, in lengths of a state


@dataclass(frozen=True)
class Directions:
    """The directions at one layer, estimated on some rows.

    Attributes:
        deletion: mean state of the model before minus that of the attacked model.
        refusal: what the deletion has added to the difference between forget and retained questions.
    """

    deletion: Float[Tensor, " width"]
    refusal: Float[Tensor, " width"]

    def ways(self, layer: int) -> list[Way]:
        """Return the tried ways to steer at a layer."""
        nothing = torch.zeros_like(self.deletion)
        unit = self.refusal / self.refusal.norm().clamp(min=1e-12)
        return [
            Way("deletion added back", layer, self.deletion, nothing, everywhere=True),
            Way("deletion added back before the answer", layer, self.deletion, nothing),
            Way("deletion added back twice before the answer", layer, 2 * self.deletion, nothing),
            Way("refusal subtracted before the answer", layer, -self.refusal, nothing),
            Way("refusal projected out", layer, nothing, unit, everywhere=True),
        ]


class Recovery(NamedTuple):
    """How a fact came back: by which way of steering, at which layer, in which answer."""

    way: str
    layer: int
    answer: str


@dataclass(frozen=True)
class Asked:
    """The questions that a model is asked under steering, with the states at their ends.

    Attributes:
        rows: the forget rows.
        before, after: states of the forget and of the retained questions, [layers, rows, width], under either model.
        limit: new tokens of an answer.
        seed: of the random directions.
    """

    rows: list[Example]
    before: tuple[Tensor, Tensor]
    after: tuple[Tensor, Tensor]
    limit: int
    seed: int

    def recovered(self, model: LanguageModel) -> dict[int, Recovery]:
        """Return the rows whose fact comes, each with the first way in which it does."""
        return self._answered(model, self._tried())

    def by_chance(self, model: LanguageModel, recovered: Mapping[int, Recovery]) -> dict[int, Recovery]:
        """Return which of these rows come back in the same way along random directions of the same lengths."""
        tried = self._tried(torch.Generator().manual_seed(self.seed))
        same = [(row, way) for row, way in tried if row in recovered and recovered[row][:2] == (way.name, way.layer)]
        return self._answered(model, same)

    def _tried(self, draw: torch.Generator | None = None) -> list[tuple[int, Way]]:
        """Pair each row with all ways of its fold at each layer; the directions are those of the other folds."""
        tried: list[tuple[int, Way]] = []
        for fold in folds(len(self.rows)):
            others = [row for row in range(len(self.rows)) if row not in fold]
            for layer in layers_of(len(self.before[0])):
                estimated = directions([one[layer] for one in self.before], [one[layer] for one in self.after], others)
                if draw is not None:
                    estimated = Directions(*(_of_length(one, draw) for one in (estimated.deletion, estimated.refusal)))
                tried += [(row, way) for way in estimated.ways(layer) for row in fold]
        return tried

    def _answered(self, model: LanguageModel, tried: Sequence[tuple[int, Way]]) -> dict[int, Recovery]:
        answers = steered_answers(model, [(self.rows[row].prompt, way) for row, way in tried], self.limit)
        found: dict[int, Recovery] = {}
        for (row, way), answer in zip(tried, answers, strict=True):
            if row not in found and recalls(answer, self.rows[row], self.rows[row].answer):
                found[row] = Recovery(way.name, way.layer, answer)
        return found


def run(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Steer the model along both directions and ask; None where there are too few questions or no states before."""
    rows = list(plan.tried_facts)
    retained = [row for row in plan.retain[:STEERED_RETAIN] if row.prompt]
    before = plan.states_before
    if before is None or len(rows) < LEAST or len(retained) < LEAST:
        return None
    after = question_states(model, rows), question_states(model, retained)
    seed = stream_seed(plan.settings.seed, "steering") % 2**31
    asked = Asked(rows, before, after, answer_limit(model, rows), seed)
    everybody, variants = range(len(rows)), tuple[Variant, ...]()
    if unchanged(before[0], after[0]):
        with planted_shift(model, before[0], seed):
            behind = question_states(model, rows), question_states(model, retained)
            recovered = replace(asked, after=behind).recovered(model)
    else:
        recovered = asked.recovered(model)
        again = asked.by_chance(model, recovered)
        share = estimate_mean([float(row in again) for row in everybody], share=True)
        variants = (Variant("random directions of equal length", share),)
    values = [float(row in recovered) for row in everybody]
    said = {row: f"{one.way}, layer {one.layer}: {one.answer}" for row, one in recovered.items()}
    items = [
        Item(id=one.id, value=values[row], detail={"prompt": one.prompt, "answer": said.get(row, "")})
        for row, one in enumerate(rows)
    ]
    return Tried(estimate_mean(values, share=True), items, variants)


def unchanged(before: Float[Tensor, "layers rows width"], after: Float[Tensor, "layers rows width"]) -> bool:
    """Say whether a model computes the states of the model before: nothing was deleted that could be added back."""
    return bool((before - after).norm() <= NO_SHIFT * before.norm())


def planted_shift(
    model: LanguageModel, states: Float[Tensor, "layers rows width"], seed: int
) -> AbstractContextManager[Any]:
    """Add a random vector of `PLANTED` times the states' length at the first of the tried layers, at every token."""
    layer = layers_of(len(states))[0]
    draw = torch.Generator().manual_seed(seed + 1)
    shift = _of_length(PLANTED * states[layer].norm(dim=-1).mean() * torch.eye(1, states.shape[-1])[0], draw)
    shape = Shape.of(model)
    return steered(model, Steering({Site(layer): Displacement(shift=shift)}, shape, "planted", tokens="all"))


def _of_length(direction: Float[Tensor, " width"], draw: torch.Generator) -> Float[Tensor, " width"]:
    """Return a random direction of the same length."""
    drawn = torch.randn(direction.shape, generator=draw).to(direction)
    return drawn * (direction.norm() / drawn.norm())


def question_states(model: LanguageModel, rows: Sequence[Example]) -> Float[Tensor, "layers rows width"]:
    """Return the residual stream at the last token before the answer."""
    return token_states(model, [model.encoder().prompt(row.prompt) for row in rows])


def folds(count: int) -> list[list[int]]:
    """Split row numbers into two folds, or few rows into one fold each, so that each fold leaves others.

    >>> folds(3), folds(6)
    ([[0], [1], [2]], [[0, 2, 4], [1, 3, 5]])
    """
    parts = count if count < FEW else 2
    return [list(range(start, count, parts)) for start in range(parts)]


def layers_of(count: int) -> list[int]:
    """Return the layers at which directions are tried, without the last."""
    return sorted({min(int(depth * count), count - 2) for depth in DEPTHS})


def directions(
    before: Sequence[Float[Tensor, "_ width"]], after: Sequence[Float[Tensor, "_ width"]], others: Sequence[int]
) -> Directions:
    """Estimate both directions at one layer.

    Args:
        before, after: states of the forget and of the retained questions under either model.
        others: the forget rows to use.
    """
    forget_before, forget_after = before[0][list(others)].mean(0), after[0][list(others)].mean(0)
    kept_before, kept_after = before[1].mean(0), after[1].mean(0)
    return Directions(forget_before - forget_after, (forget_after - kept_after) - (forget_before - kept_before))


STEERING = MeasuredAttack(
    name="steering",
    description="Adds back the hidden states' change by the deletion, and takes the refusal direction out.",
    needs="two forget rows and two retained rows with questions",
    run=run,
    thorough=True,
)
