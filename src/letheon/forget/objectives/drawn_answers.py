"""Answers that stand in the place of the true ones: one is drawn per forget row and step from the row's pool."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch
from letheon.core.rows.sampling import stream_seed
from letheon.forget.parts import PairIndices, Rows

# A forget row's number, and the place of an answer in its pool.
Answer = tuple[int, int]


class DrawnAnswers:
    """The answers of a run, drawn uniformly from the run's seed, anew in every step.

    Args:
        pools: the texts among which each forget row's answer is drawn, one pool per row.

    Attributes:
        drawn: per step, forget row -> place in its pool.
        encoded: the answers that are drawn at all, as tokens.
        numbers: their numbers as rows, counted on after the request's own.
    """

    def __init__(
        self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices], pools: Sequence[Sequence[str]]
    ) -> None:
        self.rows, self.plan = rows, plan
        draw = random.Random(stream_seed(rows.seed, "alternates"))
        self.drawn = [{i: draw.randrange(len(pools[i])) for i in forget} for forget, _ in plan]
        used: list[Answer] = sorted({answer for step in self.drawn for answer in step.items()})
        rewritten = [replace(rows.examples[i], answer=pools[i][line], value=None) for i, line in used]
        self.encoded = dict(zip(used, model.encoder().encode_all(rewritten), strict=True))
        first = len(rows.forget) + len(rows.retain)
        self.numbers = {answer: first + i for i, answer in enumerate(used)}

    def of(self, forget: Batch, step: int) -> list[Answer]:
        """The answers drawn for the rows of a batch."""
        return [(i, self.drawn[step][i]) for i in forget.index.tolist()]

    def batch(self, forget: Batch, step: int) -> Batch:
        """The answers to a batch's questions as a batch, with the counts of the answers in the effective batch."""
        answers = self.of(forget, step)
        batch = self.rows.batch([self.encoded[one] for one in answers], [self.numbers[one] for one in answers])
        whole = [self.encoded[i, self.drawn[step][i]] for i in self.plan[step][0]]
        batch.totals = Counter({"rows": len(whole), "tokens": sum(len(row.ids) - max(row.start, 1) for row in whole)})
        return batch
