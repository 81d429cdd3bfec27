"""How much of an answer a model has by heart, from which tokens are its first choice.

Source: exact memorisation and extraction strength as in open-unlearning (arXiv 2506.12618); Carlini et al., Quantifying
Memorization Across Neural Language Models, arXiv 2202.07646.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def exact_memorization(correct: ArrayLike, *, ends: bool = True) -> float | None:
    """Share of answer tokens that are the model's first choice when the answer before them is given.

    Args:
        correct: [n] whether each label token is the first choice.
        ends: the last of them is the end of turn, which is left out.

    Returns:
        None when no token is left.
    """
    tokens = _without_end(correct, ends)
    return float(tokens.mean()) if len(tokens) else None


def extraction_strength(correct: ArrayLike, *, ends: bool = True, peer: bool = False) -> float | None:
    """1 - k/T, where k is the least number of given tokens from which the model's first choices are the whole rest.

    Args:
        correct: [n] whether each label token is the first choice.
        ends: the last of them is the end of turn, which is left out.
        peer: the field's form, in which k stops at T - 1 even when the last token is wrong, so that it never
            falls below 1/T.

    Returns:
        None when no token is left.
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
