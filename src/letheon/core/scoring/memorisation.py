"""Memorisation of an answer, measured from which of its tokens are the model's first choice.

Source: exact memorisation and extraction strength as in open-unlearning (arXiv 2506.12618); Carlini et al., Quantifying
Memorization Across Neural Language Models, arXiv 2202.07646.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def exact_memorization(correct: ArrayLike, *, ends: bool = True) -> float | None:
    """Compute the share of answer tokens that are the model's first choice given the answer before them.

    Args:
        correct: [n] whether each label token is the first choice.
        ends: whether the last token is the end of turn, which is excluded.

    Returns:
        None if no token is left.
    """
    tokens = _without_end(correct, ends)
    return float(tokens.mean()) if len(tokens) else None


def extraction_strength(correct: ArrayLike, *, ends: bool = True, peer: bool = False) -> float | None:
    """Compute 1 - k/T, where k is the fewest given tokens from which the first choices reproduce the whole rest.

    Args:
        correct: [n] whether each label token is the first choice.
        ends: whether the last token is the end of turn, which is excluded.
        peer: use open-unlearning's form, in which k is at most T - 1 even if the last token is wrong, so that the
            result is at least 1/T.

    Returns:
        None if no token is left.
    """
    tokens = _without_end(correct, ends)
    if not len(tokens):
        return None
    wrong = np.flatnonzero(~tokens)
    given = int(wrong[-1]) + 1 if len(wrong) else 0
    return 1 - (min(given, len(tokens) - 1) if peer else given) / len(tokens)


def _without_end(correct: ArrayLike, ends: bool) -> np.ndarray:
    tokens = np.asarray(correct, dtype=bool)
    return tokens[:-1] if ends else tokens
