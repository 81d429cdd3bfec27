"""MoTE: switch off (or force on) the few experts whose use differs most between two kinds of prompts.

The map of a prompt counts, per layer and expert, how many of its tokens the router sends there, divided by its length
`[inferred]`. The differential map is the mean map of one kind of prompts minus that of the other: experts with the
largest values serve that kind. The texts that the model shall leave (`--from`, such as refused prompts) are the target:
its experts are switched off, or with `action=on` those of the texts toward which the model shall move are forced on.

Paper:   Mixture of Tunable Experts, arXiv 2502.11096 (fTRI, functional token resonance imaging).
Differs: the text of the paper was not at hand: counts or router weights, division by length, and the weight of a forced
         expert are `[inferred]`. `before_choice` runs the router's own code with the scores of the experts at -inf, so
         that the next best ones step in, as most re-implementations do; weights then are what that code makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import check_settings, method
from letheon.steer.maps import OFF, ON, Switch
from letheon.steer.method import SteeringMethod
from letheon.steer.routers import recorded_choices, routers
from letheon.steer.steering import Shape, Steering
from letheon.steer.texts import Contrast, token_rows


@dataclass(frozen=True)
class Settings:
    """The settings of the switch.

    Attributes:
        experts: number of experts to switch.
        action: `off`, or `on` for the experts of the other kind.
        weighting: count each chosen expert as 1, or by its `gate` weight.
        before_choice: an expert that is off leaves before the router's choice, so that the next best steps in.
    """

    experts: int = 10
    action: Literal["off", "on"] = "off"
    weighting: Literal["count", "gate"] = "count"
    before_choice: bool = False

    def __post_init__(self) -> None:
        check_settings(self, positive=("experts",))


@torch.inference_mode()
def expert_maps(
    model: LanguageModel, rows: Sequence[Sequence[int]], weighting: Literal["count", "gate"] = "count"
) -> Float[Tensor, "rows layers experts"]:
    """Return the use of each expert per token, one map per row of token ids; layers are those with a router.

    Rows are run one at a time, so that no padding is counted.
    """
    base = model.base()
    by_layer = routers(base)
    if not by_layer:
        raise InputError(f"{model.name} has no router", "mote steers mixture-of-experts models")
    maps = torch.zeros(len(rows), len(by_layer), next(iter(by_layer.values())).experts)
    with recorded_choices(base) as choices:
        for at, row in enumerate(rows):
            base(torch.tensor([list(row)], device=model.device), use_cache=False)
            for number, layer in enumerate(by_layer):
                weights, indices = choices[layer]
                amount = torch.ones_like(weights) if weighting == "count" else weights
                maps[at, number].index_add_(0, indices.flatten().cpu(), amount.flatten().float().cpu() / len(row))
    return maps


def differential_map(
    target: Float[Tensor, "m layers experts"], others: Float[Tensor, "n layers experts"]
) -> Float[Tensor, "layers experts"]:
    """Return the mean map of the target prompts minus that of the others."""
    return target.mean(0) - others.mean(0)


def top_experts(differences: Float[Tensor, "layers experts"], count: int) -> list[tuple[int, int]]:
    """Return the experts with the largest values as (row of the layer, expert); of equals the lower come first."""
    order = differences.flatten().sort(descending=True, stable=True).indices[:count]
    width = differences.shape[1]
    return [(int(one) // width, int(one) % width) for one in order]


def switches_of(
    model: LanguageModel, chosen: Sequence[tuple[int, int]], state: int, before_choice: bool = False
) -> dict[int, Switch]:
    """Return switches that put the chosen experts (row of the layer, expert) into a state: -1 off, 1 on."""
    by_layer = routers(model.base())
    layers = list(by_layer)
    tables: dict[int, Tensor] = {}
    for row, expert in chosen:
        layer = layers[row]
        tables.setdefault(layer, torch.zeros(by_layer[layer].experts, dtype=torch.long))[expert] = state
    return {layer: Switch(table, before_choice) for layer, table in sorted(tables.items())}


@method("steering", "mote", Settings, paper="2502.11096", seeded=False, tiny={"experts": 2})
class MoTE(SteeringMethod):
    settings: Settings
    mixture: ClassVar[bool] = True

    def fit(self, model: LanguageModel, contrast: Contrast, seed: int = 0) -> Steering:
        """Compare the routers' choices on both sets of texts and switch the experts that differ most."""
        options = self.settings
        toward, away = (
            expert_maps(model, token_rows(model, rows), options.weighting) for rows in (contrast.toward, contrast.away)
        )
        difference = differential_map(away, toward) if options.action == "off" else differential_map(toward, away)
        if options.experts > difference.numel():
            raise InputError(f"{options.experts} of {difference.numel()} experts", "choose fewer")
        chosen = top_experts(difference, options.experts)
        state = OFF if options.action == "off" else ON
        layers = list(routers(model.base()))
        table = [
            {"layer": layers[row], "expert": expert, "difference": float(difference[row, expert])}
            for row, expert in chosen
        ]
        switches = switches_of(model, chosen, state, options.before_choice)
        return Steering({}, Shape.of(model), "mote", switches, facts={"experts": table})
