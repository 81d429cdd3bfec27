"""SimNPO: negative preference optimisation without a reference, on length-normalised log-probabilities.

Paper:   Fan et al., Simplicity Prevails: Rethinking Negative Preference Optimization, arXiv 2410.07163.
Differs: the margin is written as open-unlearning does, −(2/β) log σ(β(NLL/T − δ)); the paper's margin is βδ.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from letheon.core.registry import Checked, method
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings


@dataclass(frozen=True)
class Settings(LikelihoodSettings, Checked, positive=("beta",)):
    beta: float = 4.5  # open-unlearning's TOFU setting
    delta: float = 0.0
    gamma: float = 0.125


def simnpo_loss(
    logp: Float[Tensor, " rows"], length: Int[Tensor, " rows"], beta: float, delta: float
) -> Float[Tensor, " rows"]:
    """−(2/β) log σ(β(−log p / T − δ)) per row; log p is summed over the answer's T tokens (nats)."""
    return -2 / beta * logsigmoid(beta * (-logp / length - delta))


@method("objective", "simnpo", Settings, paper="2410.07163", wants={"retain"})
class SimNPO(LikelihoodObjective):
    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        settings = self.settings
        return batch.mean(simnpo_loss(scores.sequence_logp(), scores.lengths(), settings.beta, settings.delta), "rows")
