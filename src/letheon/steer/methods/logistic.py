"""Logistic: add the normal of a logistic regression between the two sets' states to the residual stream.

Source:  the probe direction of Li et al., Inference-Time Intervention, arXiv 2306.03341.
Differs: it acts on the residual stream instead of single heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from letheon.core.registry import check_settings, method
from letheon.steer.method import DirectionMethod, DirectionSettings


@dataclass(frozen=True)
class Settings(DirectionSettings):
    """The settings of the regression.

    Attributes:
        penalty: inverse strength of the L2 penalty on standardised states.
    """

    penalty: float = 0.1

    def __post_init__(self) -> None:
        check_settings(self, positive=("penalty",))


def regression_direction(
    toward: Float[Tensor, "m width"], away: Float[Tensor, "n width"], penalty: float
) -> Float[Tensor, " width"]:
    """Fit a regression on standardised states and return its coefficients in the states' own units."""
    states = torch.cat([toward, away]).double()
    mean, scale = states.mean(0), states.std(0).clamp(min=1e-8)
    labels = np.r_[np.ones(len(toward)), np.zeros(len(away))]
    probe = LogisticRegression(C=penalty, class_weight="balanced", max_iter=1000)
    probe.fit(((states - mean) / scale).numpy(), labels)
    return (torch.from_numpy(probe.coef_[0]) / scale).float()


@method("steering", "logistic", Settings, paper="2306.03341", seeded=False)
class Logistic(DirectionMethod):
    settings: Settings
    name = "logistic"

    def direction(self, toward: Float[Tensor, "m width"], away: Float[Tensor, "n width"]) -> Float[Tensor, " width"]:
        return regression_direction(toward, away, self.settings.penalty)
