"""The likelihood of the retain answers through the layers above the one that is read."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import FrozenLayers
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import score


class _GivenStates(FrozenLayers):
    """Lower layers whose output is supplied, with gradients."""

    def __init__(self, below: int, hidden: Tensor) -> None:
        super().__init__(below)
        self.hidden = hidden

    def states_of(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.hidden


def answer_nll_from(
    model: LanguageModel, batch: Batch, layer: int, hidden: Float[Tensor, "rows length width"]
) -> Tensor:
    """The answers' mean negative log-likelihood (nats per token), from the output `hidden` of the block `layer`.

    Its gradient reaches the layers that computed `hidden` and no weight above: the value is linear in `hidden`.
    """
    states = hidden.detach().requires_grad_()
    with torch.enable_grad():
        above = replace(model, frozen=_GivenStates(layer + 1, states))
        loss = -batch.mean(score(above, batch).logp, "tokens")
        slope: Tensor | None = torch.autograd.grad(loss, states, allow_unused=True)[0]
    if slope is None:  # no label
        return loss.detach()
    return loss.detach() + (slope * (hidden - states.detach())).sum()
