"""Weighted gradient ascent: tokens that the model no longer believes are left alone.

Paper:   Wang et al., Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond, arXiv 2502.19301;
         as in open-unlearning (arXiv 2506.12618).
Differs: none.
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
    beta: float = 1.0


def wga_loss(logp: Float[Tensor, " tokens"], beta: float) -> Float[Tensor, " tokens"]:
    """−sg(p)^β · CE per token, which is sg(p)^β · log p; no gradient flows through the weight."""
    return (beta * logp.detach()).exp() * logp


@method("objective", "wga", Settings, paper="2502.19301", wants={"retain"})
class WGA(LikelihoodObjective):
    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return batch.mean(wga_loss(scores.logp, self.settings.beta), "tokens")
