"""UNDIAL: distil from the model's own logits with the true token's logit lowered.

Paper:   Dong et al., UNDIAL: Self-Distillation with Adjusted Logits, arXiv 2402.10052.
Differs: `positions="labels"` distils the answer's tokens, as the paper has it. open-unlearning masks nothing: prompts
         are distilled too, and where there is no label its −100 lowers the logit of token V − 100. Reach that form by
         `positions="all"` (padding is left out: it would make the loss depend on how rows are batched).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Positions, Scores
from letheon.core.scoring.reference import Reference
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings
from letheon.forget.parts import PairIndices, Rows


@dataclass(frozen=True)
class Settings(LikelihoodSettings):
    beta: float = 10.0  # the paper tries 3, 10, 30
    alpha: float = 0.0
    positions: Positions = "labels"

    def __post_init__(self) -> None:
        if self.positions == "all" and self.tokens != "answer":
            problem = f"undial: positions=all and tokens={self.tokens} exclude each other"
            raise InputError(problem, "choose one of the two")


def undial_loss(
    logits: Float[Tensor, "tokens vocabulary"],
    reference: Float[Tensor, "tokens vocabulary"],
    labels: Int[Tensor, " tokens"],
    beta: float,
) -> Float[Tensor, " tokens"]:
    """CE(softmax(z_ref − β·onehot(y)), z) per token."""
    lowered = reference - beta * torch.nn.functional.one_hot(labels, logits.shape[-1])
    return -(lowered.softmax(-1) * torch.log_softmax(logits, -1)).sum(-1)


@method("objective", "undial", Settings, paper="2402.10052", needs={"reference"}, tiny=({}, {"positions": "all"}))
class UNDIAL(LikelihoodObjective):
    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        super().prepare(model, rows, plan)
        self.forget_reference = Reference()
        batches = [rows.forget_batch([i]) for i in range(len(rows.forget))]
        self.forget_reference.keep(model, batches, self.settings.positions)

    def positions(self) -> Positions:
        return self.settings.positions

    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        reference, labels = self.forget_reference.logits(batch), scores.labels
        if self.settings.tokens != "answer":
            reference = reference[batch.value_mask[batch.labels != -100]]
        if self.settings.positions == "all":
            real = batch.attention_mask[:, 1:] == 1
            unlabelled = (batch.labels[:, 1:] == -100)[real]
            labels = labels.masked_fill(unlabelled, scores.logits.shape[-1] - 100)
        return batch.mean(undial_loss(scores.logits, reference, labels, self.settings.beta), "tokens")
