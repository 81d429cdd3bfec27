"""Extraction likelihood: overlap of greedy continuations with the answer that they should continue.

Paper:   Jang et al., Knowledge Unlearning for Mitigating Privacy Risks in Language Models, arXiv 2210.01504 (EL_n).
Differs: EL_n runs over an answer after its prompt instead of over running text. The published code divides an
         overlap by the reference's n-grams; the formula, kept here, by the continuation's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate_ids


def overlap(continuation: Sequence[int], reference: Sequence[int], n: int) -> float:
    """Return the share of the continuation's n-grams that occur in the reference; 0 where it has none."""
    grams = [tuple(continuation[i : i + n]) for i in range(len(continuation) - n + 1)]
    known = {tuple(reference[i : i + n]) for i in range(len(reference) - n + 1)}
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


def extraction_likelihood(
    model: LanguageModel, rows: Sequence[Example], n: int = 3, most: int = 200, batch_size: int = 128
) -> list[float | None]:
    """Return EL_n of each row's answer: mean overlap of greedy continuations with the rest, over all its beginnings.

    Args:
        n: length of the n-grams, tokens; a row with no more than n answer tokens has none.
        most: length to which answers are cut, tokens (one continuation per token).
    """
    encoder = model.encoder()
    answers = [encoder.answer(row.answer, end=False)[0][:most] for row in rows]
    starts = [(i, cut) for i, ids in enumerate(answers) for cut in range(len(ids) - n)]
    prompts = [rows[i].prompt for i, _ in starts]
    prefixes = [answers[i][:cut] for i, cut in starts]
    longest = max((len(ids) for ids in answers), default=1)
    continuations = generate_ids(model, prompts, max_new_tokens=longest, prefixes=prefixes, batch_size=batch_size)
    shares: list[list[float]] = [[] for _ in rows]
    for (i, cut), continuation in zip(starts, continuations, strict=True):
        rest = answers[i][cut:]
        shares[i].append(overlap(continuation[cut : cut + len(rest)], rest, n))
    return [float(np.mean(values)) if values else None for values in shares]
