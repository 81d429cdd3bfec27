"""Synaptic resonance: fast weights beside attention, which relevant and recurring patterns reinforce during inference.

Paper:   Applegarth et al., Exploring Synaptic Resonance in Large Language Models: A Novel Approach to Contextual Memory
         Integration, arXiv 2502.10699.
Differs: a mechanism made to fit the abstract and a review's paraphrase; the paper's equations, model and numbers were
         not available. From them: synaptic matrices adjusted during training and inference by contextual relevance, a
         reinforcement module beside self-attention, no memory bank. [inferred] everything else: the fast-weight form,
         agreement as a cosine, the mixture of error correction and Hebb, decay, the cap on the norm, the gate, all
         values. Keys, queries and values have small projections of their own from what enters the layer, so that any
         architecture takes it; what is read passes an output matrix that is zero at the start, so that the start is
         exactly the model as it was. The weights of the model are never edited: only the state changes, and it ends
         with the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from letheon.attend.addon import AddOn, Call, Edit, Memory, zeroed
from letheon.attend.fast_weights import fast_weights
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.sites import Site
from letheon.core.registry import Checked

Rule = Literal["resonance", "hebb", "delta"]
SMALL = 1e-6  # smallest norm in a cosine


@dataclass(frozen=True)
class Settings(Checked, positive=("heads", "width", "half_life", "rate"), not_negative=("sparsity",)):
    """Options of synaptic resonance; all values are [inferred].

    Attributes:
        layers: layers whose attention gets synapses; None: four layers, evenly spread.
        heads, width: synaptic matrices per layer, and the side of each.
        rule: `resonance`; `hebb`, the most literal reading (every token is stored by its relevance); or `delta`, error
            correction alone. The last two have no agreement term and are computed in chunks.
        half_life: first half-life of a memory in tokens.
        rate: first learning rate.
        gate_bias: first logit of the output gate.
        sparsity: weight of the mean resonance in the training loss.
        capped: limit the Frobenius norm of a matrix to the root of its width; `hebb` and `delta` have no limit.
    """

    layers: tuple[int, ...] | None = None
    heads: int = 2
    width: int = 32
    rule: Rule = "resonance"
    half_life: float = 256.0
    rate: float = 0.5
    gate_bias: float = -4.0
    sparsity: float = 1e-3
    capped: bool = True


class Resonance(NamedTuple):
    """The inputs and parameters of a layer's synapses.

    Attributes:
        relevance: c per token and head, in (0, 1).
        sharpness, offset: kappa and tau per head.
        decay, rate: lambda and eta per head.
        cap: largest Frobenius norm of a matrix; infinity for none.
    """

    relevance: Float[Tensor, "batch heads length"]
    sharpness: Float[Tensor, " heads"]
    offset: Float[Tensor, " heads"]
    decay: Float[Tensor, " heads"]
    rate: Float[Tensor, " heads"]
    cap: float

    def rho(
        self, agreement: Float[Tensor, "batch heads"], relevance: Float[Tensor, "batch heads"]
    ) -> Float[Tensor, "batch heads"]:
        """Return sigmoid(kappa a + tau) c of one token."""
        return torch.sigmoid(self.sharpness * agreement + self.offset) * relevance


def resonate(
    q: Float[Tensor, "batch heads length d"],
    k: Float[Tensor, "batch heads length d"],
    v: Float[Tensor, "batch heads length d"],
    drive: Resonance,
    real: Float[Tensor, "batch length"],
    state: Float[Tensor, "batch heads d d"],
) -> tuple[
    Float[Tensor, "batch heads length d"], Float[Tensor, "batch heads d d"], Float[Tensor, "batch heads length"]
]:
    """Return the outputs (each read before its write), the synapses at the end, and the resonance rho per token.

        m = S k,  a = cos(m, v),  rho = sigmoid(kappa a + tau) c
        S <- (1 - lambda) S + eta (c (1 - rho) (v - m) + rho v) kᵀ,   then scaled down to the cap

    rho depends on S, so tokens are processed one by one. Padding (`real` of 0) neither decays nor writes.
    """
    direction = v / v.norm(dim=-1, keepdim=True).clamp(min=SMALL)
    keep = 1 - drive.decay[:, None] * real[:, None]
    given = (torch.stack([q, k], -1), k, v, direction, drive.relevance * real[:, None], keep)
    outputs, resonances = [], []
    # unbound at once: one slice per token would make one gradient of full size per token
    for asked, key, value, toward, relevance, kept in zip(*(x.unbind(2) for x in given), strict=True):
        read, predicted = (state @ asked).unbind(-1)
        rho = drive.rho((predicted * toward).sum(-1) / predicted.norm(dim=-1).clamp(min=SMALL), relevance)
        novel = (relevance * (1 - rho))[..., None] * (value - predicted)
        written = drive.rate[:, None] * (novel + rho[..., None] * value)
        state = kept[..., None, None] * state + written[..., None] * key[..., None, :]
        if drive.cap < math.inf:
            state = state * (drive.cap / state.norm(dim=(-2, -1), keepdim=True).clamp(min=drive.cap))
        outputs.append(read)
        resonances.append(rho)
    return torch.stack(outputs, 2), state, torch.stack(resonances, 2)


class Synapses(Memory):
    """The matrices of a layer [batch, heads, d, d] in the model's cache, as `keys`; they cannot be cropped."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner)
        self.tokens = 0

    def seen(self) -> int:
        return self.tokens

    def put(self, state: Tensor, tokens: int) -> None:
        """Store the synapses after `tokens` more tokens."""
        self.keys, self.values = state, state[..., :0]
        self.device, self.is_initialized = state.device, True
        self.tokens += tokens

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse to remove tokens, as their writes cannot be undone."""
        raise LetheonError("synapses cannot forget single tokens", "decode without a draft model")


class Layer(nn.Module):
    """The synapses beside the attention of one layer."""

    drive = Resonance

    def __init__(self, width: int, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        heads, d = settings.heads, settings.width
        self.norm, self.read = nn.RMSNorm(width), nn.RMSNorm(d)
        self.query, self.key, self.value = (nn.Linear(width, heads * d, bias=False) for _ in range(3))
        self.relevance, self.gate = nn.Linear(width, heads), zeroed(nn.Linear(width, heads), settings.gate_bias)
        self.sharpness, self.offset = nn.Parameter(torch.full((heads,), 4.0)), nn.Parameter(torch.zeros(heads))
        decay = 1 - 0.5 ** (1 / settings.half_life)
        self.decay = nn.Parameter(torch.full((heads,), math.log(math.expm1(decay))))  # through softplus
        self.rate = nn.Parameter(torch.full((heads,), math.log(math.expm1(settings.rate))))
        self.output = zeroed(nn.Linear(heads * d, width, bias=False))
        self.rho: Tensor | None = None  # [batch, heads, length] of the last pass

    def forward(self, entering: Tensor, call: Call, owner: str) -> Tensor:
        """Return the addition [batch, length, width] to the attention's output."""
        x = self.norm(entering.float())
        q, k, v = (self._heads(matrix(x)) for matrix in (self.query, self.key, self.value))
        q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
        memory = call.memory(owner, Synapses)
        state = v.new_zeros(*v.shape[:2], v.shape[-1], v.shape[-1])
        if isinstance(memory, Synapses) and memory.tokens:
            state = memory.keys
        read, state, self.rho = self._run(q, k, v, x, self._real(entering, call), state)
        if isinstance(memory, Synapses):
            memory.put(state, entering.shape[1])
        gated = self.opening(x).mT[..., None] * self.read(read)
        return self.output(gated.transpose(1, 2).flatten(2))

    def opening(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length heads"]:
        """Return the gate of each head, from 0 (closed) to 1 (open)."""
        return torch.sigmoid(self.gate(x))

    def _run(
        self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, real: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        relevance = torch.sigmoid(self.relevance(x)).mT.float()
        decay, rate = functional.softplus(self.decay).clamp(max=0.999), functional.softplus(self.rate).clamp(max=1.0)
        q, k, v, state = q.float(), k.float(), v.float(), state.float()
        if self.settings.rule == "resonance":
            cap = math.sqrt(self.settings.width) if self.settings.capped else math.inf
            drive = self.drive(relevance, self.sharpness, self.offset, decay, rate, cap)
            return resonate(q, k, v, drive, real, state)
        # padding comes before a row's first token, when the memory is empty, or after its last
        write = rate[:, None] * relevance * real[:, None]
        correct: float | Tensor = write if self.settings.rule == "delta" else 0.0
        read, state = fast_weights(q, k, v, write, correct, 1 - decay, state, read="before")
        return read, state, relevance

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.settings.heads, -1).transpose(1, 2)

    def _real(self, entering: Tensor, call: Call) -> Tensor:
        """Return [batch, length]: 1 at tokens, 0 at padding."""
        if call.mask is not None and call.mask.ndim > 2:
            raise LetheonError(
                "synapses read one token after the other, and this pass branches (answers are scored as a tree)",
                "score each answer as a row of its own: letheon.core.scoring.likelihood.score",
            )
        seen = call.visible(entering)[:, 0, -entering.shape[1] :]
        return seen.expand(entering.shape[0], -1).float()


class SynapticResonance(AddOn):
    """The add-on: synapses beside the attention of some layers."""

    name = "resonance"
    layer = Layer

    def __init__(self, width: int, layers: int, settings: Settings) -> None:
        super().__init__(width, layers, settings)
        spread = tuple(sorted({layers * i // 4 for i in range(4)}))
        self.at = spread if settings.layers is None else settings.layers
        if not self.at or not all(0 <= layer < layers for layer in self.at):
            raise InputError(f"synapses at layers {self.at}, the model has {layers}", "name layers that it has")
        self.beside = nn.ModuleDict({str(layer): self.layer(width, settings) for layer in self.at})

    def edits(self) -> Mapping[Site, Edit]:
        edits: dict[Site, Edit] = {}
        for layer in self.at:
            edits |= self._at(layer)
        return edits

    def _at(self, layer: int) -> dict[Site, Edit]:
        def keep(hidden: Tensor, call: Call) -> Tensor:
            call.kept[self, layer] = hidden
            return hidden

        def add(output: Tensor, call: Call) -> Tensor:
            entering = call.kept[self, layer]
            added = self.beside[str(layer)](entering, call, f"{self.name} at layer {layer}")
            return output + added.to(output.dtype)

        return {Site(layer, "input"): keep, Site(layer, "attention"): add}

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted mean resonance."""
        rhos = [one.rho.mean() for one in self.beside.values() if isinstance(one, Layer) and one.rho is not None]
        return self.settings.sparsity * torch.stack(rhos).mean() if rhos else torch.zeros(())
