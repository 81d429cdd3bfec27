"""AUSteer: rescale the few scalar activations that change most consistently between right and wrong answers.

A linear map is a sum of its columns, each with a scalar activation: the atomic units. Over pairs of texts, the momentum
of a unit is its activation at the last token of the positive text minus that of the negative one. A unit's score is the
larger of the shares of pairs with a positive and with a negative momentum; the k best units of all layers together are
rescaled by 1 + γ, where γ is +α times the share if the momentum is mostly positive, else -α times the share.

Paper:   Fine-Grained Activation Steering, arXiv 2602.04428.
Differs: the site `neurons` (columns of the down projection) is the paper's picture; the authors' code scales the MLP's
         output, here `mlp`. Products are computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.core.registry import check_settings, method
from letheon.steer.maps import Displacement
from letheon.steer.method import SteeringMethod, contrast_states, layers_of
from letheon.steer.steering import Shape, Steering
from letheon.steer.texts import Contrast


@dataclass(frozen=True)
class Settings:
    """The settings of the choice.

    Attributes:
        k: number of units to rescale.
        alpha: factor on every unit's strength.
        site: `heads` (input of the output projection), `mlp` (its output), `residual`, or `neurons` (intermediate
            activations of the MLP).
        layers: the layers whose units compete: `all`, a layer (7), a range (5-9) or an open one (20-).
    """

    k: int = 50
    alpha: float = 10.0
    site: Literal["heads", "mlp", "residual", "neurons"] = "heads"
    layers: str = "all"

    def __post_init__(self) -> None:
        check_settings(self, positive=("k", "alpha"))


class Ranking(NamedTuple):
    """The units of all layers, best first.

    Attributes:
        layer: row of the layer among those given.
        unit: coordinate in the layer.
        signed: share of pairs with the commoner sign of the momentum, with that sign.
    """

    layer: Int[Tensor, " units"]
    unit: Int[Tensor, " units"]
    signed: Float[Tensor, " units"]


def signed_scores(
    positive: Float[Tensor, "layers pairs width"], negative: Float[Tensor, "layers pairs width"]
) -> Float[Tensor, "layers width"]:
    """Return r+ where it is at least r-, else -r-; a momentum of 0 counts for neither share."""
    momentum = positive - negative
    up, down = (momentum > 0).float().mean(1), (momentum < 0).float().mean(1)
    return torch.where(up >= down, up, -down)


def rank_units(signed: Float[Tensor, "layers width"]) -> Ranking:
    """Sort all units by their share; of equals the lower layer and the lower coordinate come first."""
    order = signed.abs().flatten().sort(descending=True, stable=True).indices
    width = signed.shape[1]
    return Ranking(order // width, order % width, signed.flatten()[order])


def strengths(ranking: Ranking, k: int, alpha: float, shape: tuple[int, int]) -> Float[Tensor, "layers width"]:
    """Return γ: α times the signed share of the k best units, 0 elsewhere."""
    gamma = torch.zeros(shape)
    gamma[ranking.layer[:k], ranking.unit[:k]] = alpha * ranking.signed[:k]
    return gamma


@method("steering", "austeer", Settings, paper="2602.04428", needs={"pairs"}, seeded=False)
class AUSteer(SteeringMethod):
    settings: Settings

    def fit(self, model: LanguageModel, contrast: Contrast, seed: int = 0) -> Steering:
        """Rank the units on pairs of texts and rescale the best."""
        contrast.demand_pairs("austeer")
        options = self.settings
        sites = [Site(layer, options.site) for layer in layers_of(options.layers, len(blocks(model.base())))]
        positive, negative = contrast_states(model, contrast, sites, "last")
        signed = signed_scores(positive, negative)
        if options.k > signed.numel():
            raise InputError(f"k={options.k} of {signed.numel()} units", "choose a smaller k")
        ranking = rank_units(signed)
        gamma = strengths(ranking, options.k, options.alpha, (len(sites), signed.shape[1]))
        maps = {site: Displacement(gain=row) for site, row in zip(sites, gamma, strict=True) if bool(row.any())}
        best = [
            {
                "layer": sites[int(ranking.layer[i])].layer,
                "unit": int(ranking.unit[i]),
                "share": float(ranking.signed[i]),
            }
            for i in range(min(options.k, 20))
        ]
        return Steering(
            maps, Shape.of(model), "austeer", facts={"units": best, "chance": chance_level(positive, negative)}
        )


def chance_level(
    positive: Float[Tensor, "layers pairs width"], negative: Float[Tensor, "layers pairs width"], seed: int = 0
) -> float:
    """Return the best share over all units when the two texts of each pair are swapped at random."""
    draw = torch.Generator().manual_seed(seed)
    swap = torch.randint(0, 2, (positive.shape[1], 1), generator=draw).bool()
    one, other = torch.where(swap, negative, positive), torch.where(swap, positive, negative)
    return float(signed_scores(one, other).abs().max())
