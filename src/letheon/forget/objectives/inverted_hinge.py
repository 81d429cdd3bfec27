"""Inverted hinge loss: lower each true token and raise its runner-up, by a loss that is bounded.

Paper:   Cha et al., LoKU: Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs, arXiv 2408.06621.
         ReGLU (arXiv 2604.17396) forgets by it.
Differs: none. The hinge's clamp at 0 is never active, since a difference of two probabilities lies in [−1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings


@dataclass(frozen=True)
class Settings(LikelihoodSettings):
    gamma: float = 1.0
    alpha: float = 1.0


def inverted_hinge_loss(
    logits: Float[Tensor, "tokens vocabulary"], labels: Int[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """1 + p_y − max over v ≠ y of p_v, per token: 2 if the true token is certain, 0 if another one is."""
    p = logits.softmax(-1)
    true = p.gather(-1, labels[:, None])[:, 0]
    runner_up = p.scatter(-1, labels[:, None], -1.0).amax(-1)
    return (1 + true - runner_up).clamp(min=0)


@method("objective", "inverted_hinge", Settings, paper="2408.06621", wants={"retain"})
class InvertedHinge(LikelihoodObjective):
    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return batch.mean(inverted_hinge_loss(scores.logits, scores.labels), "tokens")
