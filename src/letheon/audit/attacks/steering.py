"""Steering: take directions out of the hidden states that the deletion may have added; does the model answer again?

Two directions are tried at a few layers. The *deletion direction* is the mean difference, at the last token of the
question, between the states of the model before and those of the attacked model: added back. The *refusal direction* is
the mean difference between the attacked model's states on forget questions and on retained questions, less the same of
the model before, which knows both: subtracted, and projected out. A model that has only learned to refuse, or to say
something else, computes the facts still and lacks the switch.

Each direction is a mean over rows of other folds than the row that is asked, so that it does not carry the asked fact.
A row counts as recovered if any of its steered answers gives the fact. The model before must
fall to the attack, and one that never saw the rows must not. The directions of the model before are zero, so that it
answers as it is: this control shows that the questions can be answered, not that the hooks act. A test shows that.

Source: the refusal direction and its removal, Arditi et al., arXiv 2406.11717; activation patching of deleted facts,
        Patil et al., arXiv 2309.17410.
Differs: means over folds; the contrast with the model before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.audit.attacks.base import MeasuredAttack, Tried
from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.measuring.greedy_answers import answer_limit
from letheon.audit.plan import STEERED_RETAIN, AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.hooks import edit
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import by_length
from letheon.core.scoring.generation import continue_ids, without_thought
from letheon.core.statistics import estimate_mean
from letheon.probe.linear_probes import token_states
from letheon.steer.positions import Positions, followed

# Layers at which directions are tried, as shares of the depth.
DEPTHS = (0.35, 0.65)
FEW = 6
AT_ONCE = 64
LEAST = 2  # forget questions, and retained ones


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


def run(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Steer the model along both directions and ask; None where there are too few questions or no states before."""
    asked = list(plan.tried_facts)
    retained = [row for row in plan.retain[:STEERED_RETAIN] if row.prompt]
    before = plan.states_before
    if before is None or len(asked) < LEAST or len(retained) < LEAST:
        return None
    after = question_states(model, asked), question_states(model, retained)
    tried: list[tuple[int, Way]] = []
    for fold in folds(len(asked)):
        others = [row for row in range(len(asked)) if row not in fold]
        for layer in layers_of(len(before[0])):
            estimated = directions([one[layer] for one in before], [one[layer] for one in after], others)
            tried += [(row, way) for way in estimated.ways(layer) for row in fold]
    answers = steered_answers(model, [(asked[row].prompt, way) for row, way in tried], answer_limit(model, asked))
    recovered: dict[int, str] = {}  # row -> how, and the answer
    for (row, way), answer in zip(tried, answers, strict=True):
        if row not in recovered and recalls(answer, asked[row], asked[row].answer):
            recovered[row] = f"{way.name}, layer {way.layer}: {answer}"
    values = [float(row in recovered) for row in range(len(asked))]
    items = [
        Item(id=one.id, value=values[row], detail={"prompt": one.prompt, "answer": recovered.get(row, "")})
        for row, one in enumerate(asked)
    ]
    return Tried(estimate_mean(values, share=True), items)


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
