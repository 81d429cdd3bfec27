"""CE-U: learn the model's own distribution with the true token struck out.

Paper:   Yang, CE-U: Cross Entropy Unlearning, arXiv 2503.01224; as in open-unlearning (arXiv 2506.12618).
Differs: none. The first `skip` tokens of each answer are passed over; there is no retain term by default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings


@dataclass(frozen=True)
class Settings(LikelihoodSettings):
    alpha: float = 0.0
    skip: int = 1


def ce_u_loss(logits: Float[Tensor, "tokens vocabulary"], labels: Int[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """CE(softmax(sg(z) with the label's logit at −∞), z) per token."""
    teacher = logits.detach().scatter(-1, labels[:, None], float("-inf")).softmax(-1)
    return -(teacher * torch.log_softmax(logits, -1)).sum(-1)


@method(
    "objective",
    "ce_u",
    Settings,
    paper="2503.01224",
    # ours; chosen by docs/results/demo_recipes.md
    recipes={"fact_spans": "ce_u:tokens=value,alpha=1.0,skip=0"},
    recommended={"epochs": 6, "learning_rate": 2e-5},
)
class CEU(LikelihoodObjective):
    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        kept = scores.select(place_in_row(scores) >= self.settings.skip)
        # the mean is over the tokens that are left, of the whole effective batch
        left = sum(max(length - self.settings.skip, 0) for length in batch.lengths)
        return ce_u_loss(kept.logits, kept.labels).sum() / max(left, 1)


def place_in_row(scores: Scores) -> Tensor:
    """Each labelled token's index within its row, from 0, [n]."""
    counts = torch.bincount(scores.row, minlength=scores.rows)
    first = torch.cumsum(counts, 0) - counts
    return torch.arange(len(scores.row), device=scores.row.device) - first[scores.row]
