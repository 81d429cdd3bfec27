"""Contextual memory reweaving: layers' states at earlier tokens are reconstructed and added to the present states.

Paper:   Contextual Memory Reweaving in Large Language Models Using Layered Latent State Reconstruction, arXiv
         2502.02046.
Differs: a reconstruction after the abstract: equations, model, data and numbers of the paper were not available. From
         the abstract: states of several layers, rebuilt by a module of its own (LLSR) and added to the current ones,
         no external memory, small overhead. [inferred] everything else: relevance by scaled products with a learned
         salience, a local window that is left to attention, low-rank values, a softmax over layers, a gate, the
         reconstruction loss, all sizes. Normalised is what enters the output matrix, not what leaves it: that matrix
         is zero at the start, so the start is exactly the model as it was, and has a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from letheon.attend.addon import AddOn, Call, Edit, zeroed
from letheon.core.errors import InputError
from letheon.core.model.sites import Site
from letheon.core.registry import Checked

QUERIES = 256  # tokens that look back together: memory is QUERIES x n


@dataclass(frozen=True)
class Settings(
    Checked, positive=("width", "window"), not_negative=("bottleneck", "top_k", "reconstruction", "openness")
):
    """Options of reweaving; all values are [inferred].

    Attributes:
        capture: layers whose outputs are stored; None: the layers at a quarter, half and three quarters of the depth.
        inject: the layer whose output is edited, not below the captured layers; None: the highest captured layer.
        width: width of queries and keys.
        bottleneck: width of values; 0 takes a quarter of the model's width.
        window: tokens back that are left to attention; only earlier tokens are used.
        top_k: number of earlier tokens per layer; 0 uses all.
        gate_bias: first logit of the gate.
        reconstruction, openness: weights of the reconstruction and of the mean gate in the training loss.
    """

    capture: tuple[int, ...] | None = None
    inject: int | None = None
    width: int = 64
    bottleneck: int = 0
    window: int = 32
    top_k: int = 0
    gate_bias: float = -4.0
    reconstruction: float = 0.1
    openness: float = 1e-3


def relevance(
    queries: Float[Tensor, "batch length width"],
    keys: Float[Tensor, "batch layers tokens width"],
    salience: Float[Tensor, "batch layers tokens"],
    allowed: Bool[Tensor, "#batch length tokens"],
    top_k: int = 0,
) -> Float[Tensor, "batch layers length tokens"]:
    """Return beta = softmax over allowed tokens s of u_t · a_s / sqrt(width) + g_s per layer; zero without any."""
    scores = queries[:, None] @ keys.mT / math.sqrt(keys.shape[-1]) + salience[:, :, None]
    scores = scores.masked_fill(~allowed[:, None], torch.finfo(scores.dtype).min)
    if 0 < top_k < scores.shape[-1]:
        least = scores.topk(top_k, -1).values[..., -1:]
        scores = scores.masked_fill(scores < least, torch.finfo(scores.dtype).min)
    return scores.softmax(-1) * allowed[:, None]


def reconstruct(
    beta: Float[Tensor, "batch layers length tokens"],
    values: Float[Tensor, "batch layers tokens bottleneck"],
    mix: Float[Tensor, "batch length layers"],
) -> Float[Tensor, "batch length bottleneck"]:
    """Return sum_c mix_c sum_s beta^c_s values^c_s: the states of several layers as one."""
    return torch.einsum("btc,bctd->btd", mix, beta @ values)


class Reweaving(AddOn):
    """The add-on: keys and values from captured layers, which the edited layer looks up.

    The cache holds per token captured layers x (width + 1 + bottleneck) + 1 float32 numbers.
    """

    name = "reweaving"

    def __init__(self, width: int, layers: int, settings: Settings) -> None:
        super().__init__(width, layers, settings)
        quarters = tuple(sorted({max(0, layers * i // 4 - 1) for i in (1, 2, 3)}))
        self.capture = quarters if settings.capture is None else settings.capture
        self.inject = self.capture[-1] if settings.inject is None else settings.inject
        if not self.capture or not 0 <= min(self.capture) <= max(self.capture) <= self.inject < layers:
            raise InputError(
                f"reweaving from layers {self.capture} into layer {self.inject}, the model has {layers}",
                "capture one layer or more, none above the one that is edited",
            )
        bottleneck = settings.bottleneck or width // 4
        many = len(self.capture)
        self.norm, self.mixed = nn.RMSNorm(width), nn.RMSNorm(bottleneck)
        self.captured = nn.ModuleList([nn.RMSNorm(width) for _ in self.capture])
        self.query = nn.Linear(width, settings.width, bias=False)
        self.keys = nn.ModuleList([nn.Linear(width, settings.width + 1, bias=False) for _ in self.capture])
        self.values = nn.ModuleList([nn.Linear(width, bottleneck, bias=False) for _ in self.capture])
        self.mix = nn.Linear(width, many)
        self.output = zeroed(nn.Linear(bottleneck, width, bias=False))
        self.gate = zeroed(nn.Linear(width + bottleneck, 1), settings.gate_bias)
        self.decode = nn.Linear(bottleneck, width, bias=False)  # used in training only
        # from the last pass with gradients: reconstruction, target, tokens that have one, gate
        self.seen: tuple[Tensor, ...] | None = None

    def edits(self) -> Mapping[Site, Edit]:
        def keep(layer: int) -> Edit:
            def edit(hidden: Tensor, call: Call) -> Tensor:
                call.kept[self, layer] = hidden
                return self.weave(hidden, call) if layer == self.inject else hidden

            return edit

        return {Site(layer): keep(layer) for layer in sorted({*self.capture, self.inject})}

    def weave(self, hidden: Float[Tensor, "batch length width"], call: Call) -> Float[Tensor, "batch length width"]:
        """Return H + gate W_o norm(R) at the edited layer."""
        present = self.norm(hidden.float())
        states = torch.stack(
            [n(call.kept[self, c].float()) for n, c in zip(self.captured, self.capture, strict=True)], 1
        )
        positions = call.positions(hidden)
        keys, values = self._remember(states, positions, call)
        keys, then = keys[..., :-1], keys[:, 0, :, -1]
        allowed = call.visible(hidden)
        mix = self.mix(present).softmax(-1)
        learning = torch.is_grad_enabled() and self.settings.reconstruction + self.settings.openness > 0
        rebuilt, best = [], []
        for start in range(0, hidden.shape[1], QUERIES):
            part = slice(start, start + QUERIES)
            far = positions[:, part, None] - then[:, None] >= self.settings.window
            seen = far & (allowed if allowed.shape[1] == 1 else allowed[:, part])
            beta = relevance(self.query(present[:, part]), keys[..., :-1], keys[..., -1], seen, self.settings.top_k)
            rebuilt.append(reconstruct(beta, values, mix[:, part]))
            if learning:
                best.append(beta.max(-1))
        woven = torch.cat(rebuilt, 1)
        gate = self.opening(torch.cat([present, woven], -1))
        self.seen = None
        if learning:
            weight, place = (torch.cat(x, -1) for x in zip(*best, strict=True))
            self.seen = (woven, *self._wanted(states, weight, place - call.before, mix), gate)
        return hidden + (gate * self.output(self.mixed(woven))).to(hidden.dtype)

    def opening(self, x: Float[Tensor, "batch length both"]) -> Float[Tensor, "batch length 1"]:
        """Return the gate, from 0 (closed) to 1 (open), of the present state and the reconstruction."""
        return torch.sigmoid(self.gate(x))

    def _remember(self, states: Tensor, positions: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        """Return keys (with salience and position as their last columns) and values of all tokens so far."""
        columns = [key(states[:, i]) for i, key in enumerate(self.keys)]
        where = positions[:, None, :, None].expand(-1, len(columns), -1, -1)
        keys = torch.cat([torch.stack(columns, 1).float(), where.float()], -1)
        values = torch.stack([value(states[:, i]) for i, value in enumerate(self.values)], 1).float()
        memory = call.memory(self.name)
        return (keys, values) if memory is None else memory.update(keys, values)

    def _wanted(self, states: Tensor, weight: Tensor, place: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
        """Return the target [batch, length, width], mixed states of the most relevant tokens, and where there is one.

        Tokens before this pass (a shared prefix) have left keys and values alone and are skipped.
        """
        there = (weight > 0) & (place >= 0)
        index = place.clamp(min=0)[..., None].expand(-1, -1, -1, states.shape[-1])
        wanted = torch.einsum("btc,bctd->btd", mix * there.mT, states.gather(2, index))
        return wanted.detach(), there.any(1)

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted sum of 1 - cos(decoded R, target) and the mean gate."""
        if self.seen is None:
            return torch.zeros(())
        woven, wanted, looked, gate = self.seen
        missed = 1 - functional.cosine_similarity(self.decode(woven), wanted, -1)
        share = (missed * looked).sum() / looked.sum().clamp(min=1)
        return self.settings.reconstruction * share + self.settings.openness * gate.mean()
