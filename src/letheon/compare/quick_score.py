"""A quick score of a model while it forgets: how much is gone, how much is kept, whether it still writes the language.

Three forward passes over a few rows, so that it can be done several times in a run. The audit decides later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from letheon.audit.measuring.findings import text_scores
from letheon.audit.plan import draw, shipped_text, with_values
from letheon.compare.halving import score
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.spans import value_probability
from letheon.core.scoring.word_masks import WordRules
from letheon.forget.request import Request

ROWS = 16
TEXTS = 2


@dataclass(frozen=True)
class Levels:
    """Mean probability of the forgotten facts and of the kept answers, mean loss of general text in nats per token."""

    forget: float
    retain: float
    general: float


class QuickScore:
    """Scores a model against the model before, for the choice of a learning rate."""

    def __init__(self, before: LanguageModel, request: Request, seed: int) -> None:
        self.forget = with_values(
            before, draw(request.forget, ROWS, seed, "forget"), WordRules.of(request.forget, request.retain)
        )
        self.retain = draw(request.retain, ROWS, seed, "retain")
        self.general = (list(request.general) or shipped_text())[:TEXTS]
        self.before = self.levels(before)

    @torch.no_grad()
    def levels(self, model: LanguageModel) -> Levels:
        """The three numbers of a model; facts are the values where they are known, else whole answers."""
        values = [value for value in value_probability(model, self.forget) if value is not None]
        forget = sum(values) / len(values) if values else _probability(model, self.forget)
        pieces = text_scores(model, self.general)
        loss = sum(piece.nll for piece in pieces) / max(sum(piece.tokens for piece in pieces), 1)
        return Levels(forget, _probability(model, self.retain) if self.retain else 1.0, loss)

    def __call__(self, model: LanguageModel) -> float:
        """The score for choosing learning rates: harmonic mean of forgotten, kept and language, each in [0, 1]."""
        now, before = self.levels(model), self.before
        gone = 1 - now.forget / max(before.forget, 1e-9)
        kept = now.retain / max(before.retain, 1e-9)
        language = math.exp(min(before.general - now.general, 0.0))  # perplexity before over perplexity now
        return score(gone, kept, language)


def _probability(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Return the mean over rows of exp of the answer's mean log-probability per token."""
    scored = score_answers(model, [(row.prompt, [row.answer]) for row in rows])
    return sum(answer[0].probability for answer in scored) / len(scored)
