"""Logit margin: flatten the outputs at the forget answers by the squared distance of the largest logit to the mean.

Paper:   Entesari et al., Constrained Entropic Unlearning, arXiv 2506.05314 (PDU), and the authors' code in
         open-unlearning: L_f = mean over tokens of (max_v z_v − mean_v z_v)². It is 0 where the outputs are uniform and
         nowhere else, and its gradient does not vanish where the model is certain.
         `pdu` is this loss with the update `primal_dual`, which makes a constraint of the retain loss.
Differs: the loss is taken where the answer's tokens are predicted. The authors' code masks the logits by labels that
         are not shifted: it leaves out the prediction of the answer's first token, and has the one after its last.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings


def logit_margin_loss(logits: Float[Tensor, "tokens vocabulary"]) -> Float[Tensor, " tokens"]:
    """(max_v z_v − mean_v z_v)² per token; a constant added to all logits changes nothing."""
    return (logits.amax(-1) - logits.mean(-1)) ** 2


@method("objective", "logit_margin", LikelihoodSettings, paper="2506.05314", wants={"retain"})
class LogitMargin(LikelihoodObjective):
    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return batch.mean(logit_margin_loss(scores.logits), "tokens")
