"""PCA: add the direction in which pairs of texts differ most to the residual stream.

Source:  Zou et al., Representation Engineering, arXiv 2310.01405; the centring of pairs follows repeng's `pca_center`.
Differs: without pairs the states are centred on the mean of the two means; the length is the means' difference along
         the direction, where repeng's directions have length 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.registry import method
from letheon.steer.method import DirectionMethod, DirectionSettings


def principal_direction(toward: Float[Tensor, "m width"], away: Float[Tensor, "n width"]) -> Float[Tensor, " width"]:
    """Compute the first right singular vector of the centred states, signed from `away` to `toward`.

    Each pair is centred on its own mean if the sets are of equal size.
    """
    if len(toward) == len(away):
        centred = toward - away  # the two halves of a centred pair are each other's negatives
    else:
        centre = (toward.mean(0) + away.mean(0)) / 2
        centred = torch.cat([toward - centre, away - centre])
    direction: Tensor = torch.linalg.svd(centred.double(), full_matrices=False).Vh[0].float()
    return direction * torch.sign((toward.mean(0) - away.mean(0)) @ direction)


@method("steering", "pca", DirectionSettings, paper="2310.01405", seeded=False)
class PCA(DirectionMethod):
    name = "pca"

    def direction(self, toward: Float[Tensor, "m width"], away: Float[Tensor, "n width"]) -> Float[Tensor, " width"]:
        return principal_direction(toward, away)
