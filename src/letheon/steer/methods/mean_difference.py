"""Mean difference: add the difference of the two sets' mean states to the residual stream.

Paper:   Rimsky et al., Steering Llama 2 via Contrastive Activation Addition, arXiv 2312.06681.
Differs: texts need not be pairs, whose mean difference is the same number.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from letheon.core.registry import method
from letheon.steer.method import DirectionMethod, DirectionSettings


def mean_difference(toward: Float[Tensor, "m width"], away: Float[Tensor, "n width"]) -> Float[Tensor, " width"]:
    """Compute mean(toward) - mean(away)."""
    return toward.mean(0) - away.mean(0)


@method("steering", "mean_difference", DirectionSettings, paper="2312.06681", seeded=False)
class MeanDifference(DirectionMethod):
    name = "mean_difference"

    def direction(self, toward: Float[Tensor, "m width"], away: Float[Tensor, "n width"]) -> Float[Tensor, " width"]:
        return mean_difference(toward, away)
