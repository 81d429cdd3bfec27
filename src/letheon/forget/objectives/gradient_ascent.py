"""Gradient ascent: climb the forget answers' loss, with nothing to hold the rest.

Paper:   Jang et al., Knowledge Unlearning for Mitigating Privacy Risks, arXiv 2210.01504; as in open-unlearning
         (arXiv 2506.12618).
Differs: none. It collapses when run long; that is the method.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings


@dataclass(frozen=True)
class Settings(LikelihoodSettings):
    alpha: float = 0.0  # no retain term


def ascent_loss(logp: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """−CE per token: log p itself. Averaged over all answer tokens of the batch, so long answers weigh more."""
    return logp


@method("objective", "gradient_ascent", Settings, paper="2210.01504")
class GradientAscent(LikelihoodObjective):
    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return batch.mean(ascent_loss(scores.logp), "tokens")
