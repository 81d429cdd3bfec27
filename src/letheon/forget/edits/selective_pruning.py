"""Selective pruning: zero the feed-forward neurons that fire on the forget rows and not on the retain rows.

Paper:   Pochinkov and Schoots, Dissecting Language Models: Machine Unlearning via Selective Pruning, arXiv 2403.01267.
         A neuron is an input of a block's last feed-forward matrix; its score is the ratio of its importance on both
         sets, importance being the mean absolute activation.
Differs: one round; the paper prunes 2 % at a time and scores again. Activations are those at positions that predict
         an answer's token, where the paper takes all of a text's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.hooks import on_inputs
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks, down_projection, has_down_projection, is_transposed
from letheon.core.registry import method
from letheon.core.rows.encoding import Encoded
from letheon.core.training.loop import TrainingOutcome
from letheon.forget.procedure import Procedure, ProcedureContext
from letheon.forget.recipe import StandaloneMethod


@dataclass(frozen=True)
class Settings:
    share: float = 0.02  # of each layer's neurons
    epsilon: float = 1e-6  # beside the importance on the retain rows

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"share: found {self.share}", "give a share between 0 and 1")


def chosen_neurons(
    forget: Float[Tensor, " neurons"], retain: Float[Tensor, " neurons"], share: float, epsilon: float
) -> Bool[Tensor, " neurons"]:
    """The neurons of a layer (at least one) with the largest ratio of importances."""
    ratio = forget / (retain + epsilon)
    count = max(1, int(share * len(ratio)))
    mask = torch.zeros_like(ratio, dtype=torch.bool)
    mask[torch.topk(ratio, count).indices] = True
    return mask


@method("edit", "selective_pruning", Settings, paper="2403.01267", needs={"retain"}, seeded=False, turns=False)
class SelectivePruning(Procedure):
    settings: Settings

    @staticmethod
    def check_model(recipe: StandaloneMethod, model: nn.Module) -> None:
        """Refuse a mixture of experts, whose tokens meet different neurons."""
        if not all(map(has_down_projection, blocks(model))):
            raise InputError(
                "selective_pruning: a mixture of experts has no single last matrix",
                "use task_vector, or a recipe such as simnpo@lora",
            )

    def run(self, work: ProcedureContext) -> TrainingOutcome:
        work.model.merge_adapter()
        encoder = work.model.encoder()
        forget = importance(work.model, encoder.encode_all(work.request.forget))
        retain = importance(work.model, encoder.encode_all(work.request.retain))
        pruned = 0
        for number, block in enumerate(blocks(work.model.base())):
            mask = chosen_neurons(forget[number], retain[number], self.settings.share, self.settings.epsilon)
            matrix = down_projection(block)
            weight = matrix.get_parameter("weight").data
            (weight.T if is_transposed(matrix) else weight)[:, mask] = 0.0
            pruned += int(mask.sum())
        return TrainingOutcome(steps=1, stopped="pruned", history=[{"neurons": float(pruned)}])


@torch.no_grad()
def importance(model: LanguageModel, rows: Sequence[Encoded], batch_size: int = 16) -> Float[Tensor, "layers neurons"]:
    """Mean absolute activation of each feed-forward neuron at the positions that predict an answer's token."""
    matrices = {str(i): down_projection(block) for i, block in enumerate(blocks(model.base()))}
    sums: dict[str, Tensor] = {}
    count = 0
    for _, batch in model.batches(rows, batch_size):
        mask = batch.labels[:, 1:] != -100
        count += int(mask.sum())

        def see(name: str, entering: Tensor, mask: Tensor = mask) -> None:
            found = entering[:, :-1][mask].abs().sum(0)
            sums[name] = sums[name] + found if name in sums else found

        with on_inputs(matrices, see):
            model.base()(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return torch.stack([sums[name] for name in matrices]) / max(count, 1)
