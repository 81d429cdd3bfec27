"""Routers of mixture-of-experts layers: read which experts a token goes to, and switch experts off or on.

A router returns logits, the weights of the chosen experts and their indices, [tokens, chosen]. All experts of a layer
are computed by one fused kernel, so the router's choice is the one place to intervene. Shared experts are never
touched. Layouts: Mixtral, Qwen2-MoE and Qwen3-MoE, OLMoE, DeepSeek-V2 and -V3.

Paper:   Mixture of Tunable Experts, arXiv 2502.11096; the rules are those of digests of its text.
Differs: an expert that is switched on takes the place of the lowest-weighted chosen one with the mean weight of the
         chosen ones (`[inferred]`). Expert-less tokens get no routed output (`[inferred]`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from letheon.core.model.hooks import edit_outputs
from letheon.core.model.sites import attention, blocks
from letheon.steer.maps import OFF, ON, Switch


@dataclass(frozen=True)
class Router:
    """A router.

    Attributes:
        module: the module that returns logits, weights and indices.
        experts: number of routed experts.
    """

    module: nn.Module
    experts: int


def routers(model: nn.Module) -> dict[int, Router]:
    """Find the routers by structure, by layer: modules with a matrix, a number of experts and of chosen ones."""
    by_layer: dict[int, Router] = {}
    for layer, block in enumerate(blocks(model)):
        inside = set(attention(block).modules())
        for module in block.modules():
            chosen, weight = getattr(module, "top_k", None), getattr(module, "weight", None)
            experts = getattr(module, "num_experts", None)
            if module not in inside and isinstance(chosen, int) and isinstance(weight, Tensor) and experts:
                by_layer[layer] = Router(module, int(weight.shape[0]))
    return by_layer


@contextmanager
def recorded_choices(model: nn.Module) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """Record the weights and indices, [tokens, chosen], of every router in the newest pass while the block runs."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def see(layer: int, output: Any) -> Any:
        seen[layer] = output[1], output[2]
        return output

    with edit_outputs({layer: one.module for layer, one in routers(model).items()}, see):
        yield seen


@contextmanager
def switched(model: nn.Module, switches: Mapping[int, Switch]) -> Iterator[None]:
    """Apply the switches to the routers' choices at every token while the block runs."""
    by_layer = routers(model)

    def change(layer: int, output: Any) -> Any:
        logits, weights, indices = output[:3]
        table = switches[layer].table.to(indices.device)
        weights = off_weights(weights, indices, table, rescale=not switches[layer].before_choice)
        weights, indices = force_on(weights, indices, table)
        return (logits, weights, indices, *output[3:])

    with ExitStack() as stack:
        for layer, switch in switches.items():
            if switch.before_choice:
                stack.enter_context(without_experts(by_layer[layer].module, switch.table == OFF))
        stack.enter_context(edit_outputs({layer: by_layer[layer].module for layer in switches}, change))
        yield


class _Masked(TorchFunctionMode):
    """Give experts the score -inf wherever a router computes with its matrix, or adds its bias of the choice."""

    def __init__(self, module: nn.Module, off: Bool[Tensor, " experts"]) -> None:
        super().__init__()
        self.bias, self.off = getattr(module, "e_score_correction_bias", None), off

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        biased = self.bias is not None and any(one is self.bias for one in args)
        masked = func is nn.functional.linear or (biased and isinstance(found, Tensor) and found.is_floating_point())
        return found.masked_fill(self.off.to(found.device), -torch.inf) if masked else found


@contextmanager
def without_experts(module: nn.Module, off: Bool[Tensor, " experts"]) -> Iterator[None]:
    """Run a router's own code as if experts had the score -inf, so that the next best ones are chosen.

    Softmax or sigmoid, groups, bias and scaling stay the architecture's own. In DeepSeek-V3 the bias is added to the
    scores that choose, so it is masked as well: an expert with a large bias would be chosen with weight 0.
    """
    plain = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with _Masked(module, off):
            return plain(*args, **kwargs)

    module.forward = forward  # restored below
    try:
        yield
    finally:
        del module.forward


def off_weights(
    weights: Float[Tensor, "tokens chosen"],
    indices: Int[Tensor, "tokens chosen"],
    table: Int[Tensor, " experts"],
    rescale: bool = True,
) -> Float[Tensor, "tokens chosen"]:
    """Set the weights of switched-off experts to 0 and scale the others to the original sum: m g (Σg) / (Σ m g)."""
    remaining = weights.masked_fill(table[indices] == OFF, 0)
    return _with_sum_of(weights, remaining) if rescale else remaining


def force_on(
    weights: Float[Tensor, "tokens chosen"], indices: Int[Tensor, "tokens chosen"], table: Int[Tensor, " experts"]
) -> tuple[Float[Tensor, "tokens chosen"], Int[Tensor, "tokens chosen"]]:
    """Put every switched-on expert in the place of the lowest-weighted chosen expert that is not switched on."""
    forced = (table == ON).nonzero().flatten().tolist()
    if not forced:
        return weights, indices
    total, mean = weights, weights.mean(-1)
    for expert in forced[: indices.shape[-1]]:
        absent = ~(indices == expert).any(-1)
        place = weights.masked_fill(table[indices] == ON, torch.inf).argmin(-1, keepdim=True)
        new_index = indices.scatter(-1, place, expert)
        new_weight = weights.scatter(-1, place, mean[:, None])
        indices = torch.where(absent[:, None], new_index, indices)
        weights = torch.where(absent[:, None], new_weight, weights)
    return _with_sum_of(total, weights), indices


def _with_sum_of(before: Float[Tensor, "tokens chosen"], after: Tensor) -> Float[Tensor, "tokens chosen"]:
    """Scale rows to the sums of the rows before; a row of zeros stays zero, an unchanged row stays bit for bit."""
    total = after.sum(-1, keepdim=True)
    scaled = after * (before.sum(-1, keepdim=True) / torch.where(total == 0, torch.ones_like(total), total))
    return torch.where((after == before).all(-1, keepdim=True), before, scaled)
