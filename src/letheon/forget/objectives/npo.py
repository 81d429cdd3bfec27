"""Negative preference optimisation: push down answers relative to a frozen reference, ever more gently.

Paper:   Zhang et al., Negative Preference Optimization, arXiv 2404.05868, Eq. 3.
Differs: none. At the start the loss is (2/β)·ln 2; as β → 0 its gradient is gradient ascent's.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from letheon.core.registry import Checked, method
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings


@dataclass(frozen=True)
class Settings(LikelihoodSettings, Checked, positive=("beta",)):
    beta: float = 0.1  # Sec. 4: in every experiment


def npo_loss(logp: Float[Tensor, " rows"], reference: Float[Tensor, " rows"], beta: float) -> Float[Tensor, " rows"]:
    """−(2/β) log σ(−β log(p/p_ref)) per row; log p is summed over the answer's tokens (nats)."""
    return -2 / beta * logsigmoid(-beta * (logp - reference))


@method(
    "objective",
    "npo",
    Settings,
    paper="2404.05868",
    needs={"reference"},
    wants={"retain"},
    tiny=({}, {"tokens": "value"}),
)
class NPO(LikelihoodObjective):
    needs_reference = True

    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        reference = self.reference_logp[batch.index]
        return batch.mean(npo_loss(scores.sequence_logp(), reference, self.settings.beta), "rows")
