"""SatImp: gradient ascent weighted by how well a token is learned (saturation) and how much is left (importance).

Paper:   Yang et al., Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning, arXiv 2505.11953; as in
         open-unlearning (arXiv 2506.12618): β1 = 5, β2 = 1.
Differs: γ = 0.1, α = 1 as in its experiment file; the class there has the two the other way round.
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
    beta1: float = 5.0
    beta2: float = 1.0
    gamma: float = 0.1


def satimp_loss(logp: Float[Tensor, " tokens"], beta1: float, beta2: float) -> Float[Tensor, " tokens"]:
    """−sg(p)^β1 · sg(1−p)^β2 · CE per token; no gradient flows through the weight."""
    p = logp.detach().exp()
    return p**beta1 * (1 - p).clamp(min=0) ** beta2 * logp


@method("objective", "satimp", Settings, paper="2505.11953", wants={"retain"})
class SatImp(LikelihoodObjective):
    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return batch.mean(satimp_loss(scores.logp, self.settings.beta1, self.settings.beta2), "tokens")
