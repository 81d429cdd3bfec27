"""KUDA: turn the forget rows' hidden states away from their original direction, hold the retain rows' in place.

Paper:   KUDA: Knowledge Unlearning by Deviating Representation, arXiv 2602.19275. The named recipe `kuda` is the whole
         of it: this objective, the update `null_space`, the scope `traced`.
Inferred: the paper's abstract and summaries give a loss on the cosine complement 1 - c with an inverse temperature;
         its exact form is not public. Here it is L_dev = (1/β) E_x mean_t log(1 + exp(β c_t)), c_t = cos(h_t, h⁰_t):
         bounded below, its gradient fades once c is well below 0, and β -> ∞ stops at a right angle. The retain term is
         mean_t ‖h_t - h⁰_t‖², or the answers' negative log-likelihood. h is a block's output: that of the highest block
         with a weight that moves (the traced window's last), unless `layer` names another. Norms are not pushed.
Ours:    c is at its maximum, without any slope, where training starts (h = h⁰); rounding, blown up by Adam, would
         choose the way. So the direction to leave is that of h⁰ + tilt ‖h⁰‖ u, u one random unit vector for all tokens.
         The retain term is relative, mean_t ‖h_t - h⁰_t‖²/‖h⁰_t‖²: a cosine has no scale, and where states are long
         (‖h⁰‖² is 16 000 in layer 7 of SmolLM2) the plain square outweighs it until nothing moves.
Differs: no layer above the one that is read is run, and the states before forgetting are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize, softplus

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks
from letheon.core.registry import Checked, method
from letheon.core.rows.encoding import Batch
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import score
from letheon.forget.kept_states import KeptStates, states_of_both
from letheon.forget.parts import Objective, Pair, PairIndices, Rows, Terms


@dataclass(frozen=True)
class Settings(Checked, positive=("beta", "tilt")):
    """Options of the deviation loss; the paper's values are not public, so all are ours [inferred].

    Attributes:
        beta: inverse temperature: small keeps pushing past a right angle, large stops there.
        form: `softplus` as above, or `cosine`: mean_t c_t itself, which pushes to the opposite direction.
        layer: the block whose output is read; -1 finds the highest one with a weight that moves.
        positions: tokens that count: the answer's, or `all` of a row but its first (whose norm and direction are those
            of an attention sink). Of running text both are the same.
        retain_loss: `states` in place, relative to their length; or `nll` of the retain answers, which runs all layers.
        tilt: by how much of its length the direction that is left is tilted, so that there is a slope to start on.
        gamma, alpha: weights of the forget and the retain loss.
    """

    beta: float = 1.0
    form: Literal["softplus", "cosine"] = "softplus"
    layer: int = -1
    positions: Literal["labels", "all"] = "labels"
    retain_loss: Literal["states", "nll"] = "states"
    tilt: float = 0.1
    gamma: float = 1.0
    alpha: float = 1.0


def deviation(cosine: Float[Tensor, "*shape"], beta: float) -> Float[Tensor, "*shape"]:
    """(1/β) log(1 + exp(β c)): its slope is σ(βc), from about 1 where c is near 1 to 0 where c is well below 0."""
    return softplus(beta * cosine) / beta


def tilted(
    original: Float[Tensor, "rows length width"], direction: Float[Tensor, " width"], tilt: float
) -> Float[Tensor, "rows length width"]:
    """h⁰ + tilt ‖h⁰‖ u, with u a unit vector."""
    return original + tilt * original.norm(dim=-1, keepdim=True) * direction


def token_mean(values: Float[Tensor, "rows length"], mask: Bool[Tensor, "rows length"]) -> Float[Tensor, " rows"]:
    """Mean over each row's masked tokens; 0 for a row without one."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)


@method(
    "objective",
    "kuda",
    Settings,
    paper="2602.19275",
    needs={"reference"},
    wants={"retain"},
    recipes={"kuda": "kuda+null_space@traced"},
    # ours, on SmolLM2; RMU's rate, 5e-5 [inferred], is for models of 7B
    recommended={"steps": 100, "learning_rate": 3e-4, "batch_size": 4},
    tiny=({}, {"retain_loss": "nll", "positions": "all", "form": "cosine"}),
)
class KUDA(Objective):
    settings: Settings

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        self.before = KeptStates()
        self.layer = read_layer(model, self.settings.layer)
        generator = torch.Generator().manual_seed(stream_seed(rows.seed, "tilt"))
        self.direction = normalize(torch.randn(model.width, generator=generator), dim=0).to(model.device)
        forget, retain = rows.visited(plan)
        self.before.record(model, [*forget, *retain], self.layer)

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        terms, settings = Terms(), self.settings
        forget, retain = pair.forget, pair.retain if settings.alpha else None
        by_states = retain if settings.retain_loss == "states" else None
        first, second = states_of_both(model, forget, by_states, self.layer)
        if forget is not None and first is not None:
            original = self.before.padded(forget)
            cosine = cosine_similarity(first, tilted(original, self.direction, settings.tilt), dim=-1)
            pushed = deviation(cosine, settings.beta) if settings.form == "softplus" else cosine
            loss = forget.mean(token_mean(pushed, self._mask(forget)), "rows")
            terms.forget = settings.gamma * loss
            terms.metrics["forget_loss"] = float(loss.detach())
            terms.metrics["forget_cosine"] = self._mean_cosine(forget, cosine_similarity(first, original, dim=-1))
        if retain is not None:
            if second is not None:
                original = self.before.padded(retain)
                distance = ((second - original) ** 2).sum(-1) / (original**2).sum(-1).clamp(min=1e-12)
                loss = retain.mean(token_mean(distance, self._mask(retain)), "rows")
                terms.metrics["retain_cosine"] = self._mean_cosine(retain, cosine_similarity(second, original, dim=-1))
            else:
                loss = -retain.mean(score(model, retain).logp, "tokens")
            terms.retain = settings.alpha * loss
            terms.metrics["retain_loss"] = float(loss.detach())
        return terms

    def _mask(self, batch: Batch) -> Tensor:
        if self.settings.positions == "labels":
            return batch.labels != -100
        return batch.attention_mask.bool() & (torch.arange(batch.input_ids.shape[1], device=batch.labels.device) > 0)

    def _mean_cosine(self, batch: Batch, cosine: Tensor) -> float:
        return float(batch.mean(token_mean(cosine.detach(), self._mask(batch)), "rows"))


def read_layer(model: LanguageModel, asked: int = -1) -> int:
    """The block to read: the requested one, or with -1 the highest one with a weight that moves.

    Raises:
        InputError: there is no such block, or no weight at or below it moves.
    """
    stack = list(blocks(model.base()))
    moving = [i for i, block in enumerate(stack) if any(p.requires_grad for p in block.parameters())]
    if asked == -1:
        return moving[-1] if moving else len(stack) - 1
    if not 0 <= asked < len(stack):
        raise InputError(f"kuda: layer {asked} asked for, the model has 0-{len(stack) - 1}", "choose among them")
    if moving and moving[0] > asked:
        raise InputError(
            f"kuda reads layer {asked}, which layers {moving[0]} and above cannot change",
            "let lower layers move, or leave `layer` out",
        )
    return asked
