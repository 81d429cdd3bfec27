"""Find attention sinks by the direction of hidden states, and measure their strength.

Paper:   On the Existence and Behaviour of Secondary Attention Sinks, arXiv 2512.22213. A token is a sink at a layer if
         the absolute cosine between its hidden state and the first token's sink exceeds 0.9, within the layers in which
         the first token's norm is large (the window). Its lifetime is the number of such layers.
Differs: the labels' bounds may be shares of the window instead of the paper's absolute numbers, which were chosen for
         models of 36 to 64 layers. The sink score, the mean weight that a token receives from the queries that see it,
         is the standard one [inferred]. A cosine without the three largest channels is reported beside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.model.hooks import edit, on_inputs, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks, is_matrix, mlp

Rule = Literal["fraction", "absolute"]
Label = Literal["primary", "secondary", "noise"]
COSINE = 0.9
MASSIVE = 3  # channels left out of the second cosine


@dataclass(frozen=True)
class Profile:
    """Norms of one text's hidden states, and their cosines with the candidates for the first token's sink.

    Attributes:
        norms: [layers, tokens], after each block.
        cosines: |cos| with each candidate's state in the same layer, [layers, candidates, tokens].
        trimmed: the same without the candidate's three largest channels.
        candidates: the first positions, among which the sink is chosen.
    """

    norms: Float[Tensor, "layers tokens"]
    cosines: Float[Tensor, "layers candidates tokens"]
    trimmed: Float[Tensor, "layers candidates tokens"]
    candidates: tuple[int, ...]

    @property
    def first(self) -> int:
        """The candidate with the largest norm averaged over layers."""
        return max(self.candidates, key=lambda place: float(self.norms[:, place].mean()))

    def to_first(self, trimmed: bool = False) -> Float[Tensor, "layers tokens"]:
        """The cosines with the first token's sink."""
        return (self.trimmed if trimmed else self.cosines)[:, self.candidates.index(self.first)]


@dataclass(frozen=True)
class Sink:
    """A token that points along the first token's sink.

    Attributes:
        position: its place in the text.
        layers: the layers at which it does.
        label: `primary` (it lasts like the first token's), `secondary`, or `noise`.
    """

    position: int
    layers: tuple[int, ...]
    label: Label

    @property
    def start(self) -> int:
        """The layer that creates it."""
        return self.layers[0]

    @property
    def lifetime(self) -> int:
        """The number of its layers."""
        return len(self.layers)


def absolute_cosine(
    states: Float[Tensor, "tokens width"], direction: Float[Tensor, " width"]
) -> Float[Tensor, " tokens"]:
    """Compute |cos| of each state with a direction."""
    return torch.nn.functional.cosine_similarity(states, direction[None], dim=-1).abs()


@torch.inference_mode()
def profile(model: LanguageModel, ids: Int[Tensor, "1 length"], candidates: Sequence[int] = (0, 1)) -> Profile:
    """Run a text once; per layer only norms and cosines are kept, never the hidden states of all layers."""
    base, places = model.base(), tuple(place for place in candidates if place < ids.shape[1])
    norms: dict[int, Tensor] = {}
    cosines: dict[int, tuple[Tensor, Tensor]] = {}

    def look(layer: int) -> Callable[[Tensor], Tensor]:
        def see(states: Tensor) -> Tensor:
            hidden = states[0].float()
            norms[layer] = hidden.norm(dim=-1).cpu()
            plain, without = [], []
            for place in places:
                kept = torch.ones(hidden.shape[1], device=hidden.device)
                kept[hidden[place].abs().topk(min(MASSIVE, hidden.shape[1] - 1)).indices] = 0
                plain.append(absolute_cosine(hidden, hidden[place]).cpu())
                without.append(absolute_cosine(hidden * kept, hidden[place] * kept).cpu())
            cosines[layer] = torch.stack(plain), torch.stack(without)
            return states

        return see

    layers = range(len(blocks(base)))
    with edit(base, {Site(layer): look(layer) for layer in layers}):
        base(ids.to(model.device), use_cache=False, logits_to_keep=1)
    plain, without = (torch.stack([cosines[layer][kind] for layer in layers]) for kind in (0, 1))
    return Profile(torch.stack([norms[layer] for layer in layers]), plain, without, places)


def layer_window(norms: Float[Tensor, " layers"]) -> tuple[int, int]:
    """Return the layers [start, end) between the largest rise of the first token's norm and the largest later fall.

    d_l = |h_{l+1}| − |h_l|; start = argmax d + 1, end = argmin over l >= start of d + 1.
    """
    change = norms.diff()
    start = int(change.argmax()) + 1
    later = change[start:]
    end = start + int(later.argmin()) + 1 if len(later) else len(norms)
    return start, end


def label_of(lifetime: int, layers: int, window: int, rule: Rule) -> Label:
    """Label a sink by its lifetime.

    `absolute` is the paper's rule: primary from layers − 15 on, noise up to 4. `fraction` is for shallow models:
    primary from 60 % of the window on, noise up to 10 % of it.
    """
    if rule == "absolute":
        return "primary" if lifetime >= layers - 15 else "secondary" if lifetime > 4 else "noise"
    return "primary" if lifetime >= 0.6 * window else "secondary" if lifetime > 0.1 * window else "noise"


def detect_sinks(
    seen: Profile, *, cosine: float = COSINE, rule: Rule = "fraction", scan_all_layers: bool = False
) -> list[Sink]:
    """Find the tokens after the first one's sink whose states point along it.

    Args:
        cosine: least absolute cosine.
        rule: how lifetimes become labels.
        scan_all_layers: look at all layers instead of the window only.
    """
    first, layers = seen.first, len(seen.norms)
    start, end = layer_window(seen.norms[:, first])
    if scan_all_layers:
        start, end = 0, layers
    close = seen.to_first() > cosine
    found = []
    for position in range(first + 1, close.shape[1]):
        at = [layer for layer in range(start, end) if bool(close[layer, position])]
        if at:
            found.append(Sink(position, tuple(at), label_of(len(at), layers, end - start, rule)))
    return found


def same_token_controls(ids: Sequence[int], sinks: Sequence[Sink], first: int) -> list[int]:
    """Return the positions that hold the same token as a secondary sink but are no sinks: the paper's control."""
    tokens = {ids[one.position] for one in sinks if one.label == "secondary"}
    taken = {one.position for one in sinks} | set(range(first + 1))
    return [position for position, token in enumerate(ids) if token in tokens and position not in taken]


@torch.inference_mode()
def mlp_stage_cosines(
    model: LanguageModel, ids: Int[Tensor, "1 length"], position: int, first: int, layer: int
) -> dict[str, float]:
    """Compare a token with the first token's sink at each stage of a layer's MLP, by cosine.

    Stages: `input` (after the norm), the output of each matrix but the last, `product` (what enters the last matrix),
    `output`. A sink is created by the MLP where `output` is near 1 and the stages before are not.
    """
    base, module = model.base(), mlp(blocks(model.base())[layer])
    matrices = {name: child for name, child in module.named_children() if is_matrix(child)}
    seen: dict[str, Tensor] = {}
    with (
        on_inputs(matrices, lambda name, entered: seen.__setitem__(name, entered)),
        record(base, [Site(layer, "mlp")]) as found,
    ):
        base(ids.to(model.device), use_cache=False, logits_to_keep=1)
    *inner, last = list(matrices)
    stages = {"input": seen[inner[0]]} | {name: matrices[name](seen[name]) for name in inner}
    stages |= {"product": seen[last], "output": found[Site(layer, "mlp")]}
    cosine = torch.nn.functional.cosine_similarity
    return {name: float(cosine(x[0, position].float(), x[0, first].float(), dim=0)) for name, x in stages.items()}
