"""Gradient difference: climb the forget answers' loss while descending the retain answers'.

Paper:   Liu et al., Continual Learning and Private Unlearning, arXiv 2203.12817; as in open-unlearning
         (arXiv 2506.12618): L = −γ·CE(forget) + α·L_retain. With `retain_loss=kl` this is the field's "KL-min".
Differs: none; for `kl_positions` see `LikelihoodSettings`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.gradient_ascent import ascent_loss
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings


@dataclass(frozen=True)
class Settings(LikelihoodSettings):
    gamma: float = 1.0
    alpha: float = 1.0


@method(
    "objective",
    "grad_diff",
    Settings,
    paper="2203.12817",
    wants={"retain"},
    recipes={"kl_min": "grad_diff:retain_loss=kl"},
    tiny=({}, {"retain_loss": "kl"}),
)
class GradDiff(LikelihoodObjective):
    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return batch.mean(ascent_loss(scores.logp), "tokens")
