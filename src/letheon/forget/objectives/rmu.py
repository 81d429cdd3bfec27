"""RMU: push the forget rows' hidden states at one layer towards a fixed random vector, hold the retain rows' in place.

Paper:   Li et al., The WMDP Benchmark, arXiv 2403.03218; as in open-unlearning (arXiv 2506.12618): the vector is
         uniform in [0, 1) and normalised, c = 2, L_r compares with the states before forgetting.
Differs: none in value. No layer above the one that is read is run, and the states before forgetting are computed once.
         `rmu@layers=5-7:parameters=down_proj` is the WMDP experiment's choice of weights; alone, all weights move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import hidden_states
from letheon.forget.parts import Pair, PairIndices, Rows, Terms, joined


@dataclass(frozen=True)
class Settings:
    layer: int = 7  # the block whose output is read
    coefficient: float = 2.0  # c; the class default there is 20, the WMDP paper's for Zephyr 6.5
    gamma: float = 1.0
    alpha: float = 1.0


def activation_loss(
    hidden: Float[Tensor, "rows length width"],
    target: Float[Tensor, "rows length width"] | Float[Tensor, " width"],
    mask: Bool[Tensor, "rows length"],
) -> Float[Tensor, " rows"]:
    """(1/n) Σ_t mask · mean_d (h − target)² a row, n its masked tokens."""
    squared = ((hidden - target) ** 2).mean(-1) * mask
    return squared.sum(-1) / mask.sum(-1).clamp(min=1)


def control_vector(width: int, coefficient: float, seed: int) -> Float[Tensor, " width"]:
    """c·u/‖u‖ with u uniform in [0, 1): drawn once, the same at every step."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(width, generator=generator)
    return coefficient * u / u.norm()


@method("objective", "rmu", Settings, paper="2403.03218", needs={"retain", "reference"})
class RMU:
    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.before: dict[int, Tensor] = {}

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        width = model.base().get_input_embeddings().weight.shape[1]
        seed = stream_seed(rows.seed, "control vector")
        self.vector = control_vector(width, self.settings.coefficient, seed).to(model.device)
        with torch.no_grad():
            for number in sorted({i for _, retain in plan for i in retain}):
                batch = rows.retain_batch([number])
                self.before[int(batch.index)] = hidden_states(model, batch, self.settings.layer)[0].float()

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        terms = Terms()
        batch = pair.forget if pair.retain is None else pair.retain
        if pair.forget is not None and pair.retain is not None:
            batch = joined(pair.forget, pair.retain)
        if batch is None:
            return terms
        hidden = hidden_states(model, batch, self.settings.layer).float()
        size = len(pair.forget) if pair.forget is not None else 0
        if pair.forget is not None:
            loss = self._forget(hidden[:size], pair.forget)
            terms.forget, terms.metrics["forget_loss"] = self.settings.gamma * loss, float(loss.detach())
        if pair.retain is not None and self.settings.alpha:
            loss = self._retain(hidden[size:], pair.retain)
            terms.retain, terms.metrics["retain_loss"] = self.settings.alpha * loss, float(loss.detach())
        return terms

    def _forget(self, hidden: Tensor, batch: Batch) -> Tensor:
        length = batch.labels.shape[1]
        return batch.mean(activation_loss(hidden[:, :length], self.vector, batch.labels != -100), "rows")

    def _retain(self, hidden: Tensor, batch: Batch) -> Tensor:
        before = [self.before[number] for number in batch.index.tolist()]
        target = torch.nn.utils.rnn.pad_sequence(before, batch_first=True)
        length = target.shape[1]
        mask = batch.labels[:, :length] != -100
        return batch.mean(activation_loss(hidden[:, :length], target, mask), "rows")
