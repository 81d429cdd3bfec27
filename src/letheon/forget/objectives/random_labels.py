"""RLabel: teach the forget answers' positions random tokens; the aggressive one of FIT's three losses.

Paper:   FIT: Defying Catastrophic Forgetting in Continual LLM Unlearning, arXiv 2601.21682; a baseline since
         Yao et al., Machine Unlearning of Pre-trained Large Language Models, arXiv 2402.15159.
Differs: the answer stays as the input and only the labels are random, drawn uniformly from the vocabulary and anew at
         every step [inferred]: in expectation the loss is ln V + KL(uniform || p).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from letheon.core.model.models import LanguageModel
from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings
from letheon.forget.parts import Pair, PairIndices, Rows, Terms


@dataclass(frozen=True)
class Settings(LikelihoodSettings):
    alpha: float = 0.0  # alone: nothing is retained


def random_label_loss(
    logits: Float[Tensor, "tokens vocabulary"], drawn: Int[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """−log p(drawn) per token (nats)."""
    return cross_entropy(logits, drawn, reduction="none")


def draw_labels(tokens: int, vocabulary: int, seed: int, step: int, row: int) -> Int[Tensor, " tokens"]:
    """Draw uniform token ids for one row's answer at one step; splits into micro-batches and restarts do not matter."""
    generator = torch.Generator().manual_seed(stream_seed(seed, f"random labels of row {row}", step))
    return torch.randint(vocabulary, (tokens,), generator=generator)


@method("objective", "random_labels", Settings, paper="2402.15159", wants={"retain"})
class RandomLabels(LikelihoodObjective):
    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        super().prepare(model, rows, plan)
        self.seed, self.step = rows.seed, 0
        self.vocabulary = min(len(model.tokenizer), model.vocabulary)

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        self.step = pair.step
        return super().terms(model, pair)

    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        labelled = batch.labels != -100
        counted = zip(batch.index.tolist(), labelled.sum(1).tolist(), strict=True)
        parts = [draw_labels(tokens, self.vocabulary, self.seed, self.step, row) for row, tokens in counted]
        drawn = torch.cat(parts).to(scores.logits.device)
        if self.settings.tokens != "answer":
            drawn = drawn[batch.value_mask[labelled]]
        return batch.mean(random_label_loss(scores.logits, drawn), "tokens")
