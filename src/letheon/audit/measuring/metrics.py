"""The metrics of unlearning as pure functions of probabilities, first choices and texts.

Source: the evaluator of open-unlearning (locuslab/open-unlearning, commit d3d7cf9), which fixes the definitions that
the field compares; TOFU (arXiv 2401.06121) for truth ratio, forget quality and model utility.
Differs: extraction strength may be 0 (the field's form never falls below 1/T; `peer=True` gives that one).

Probability and truth ratio keep the last label token (the end of turn); exact memorisation and extraction strength
leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from letheon.core.statistics import harmonic_mean, ks_p_value

TINY = 1e-10  # the evaluator's guard against division by zero; part of the definition


def probability(logp: ArrayLike) -> float:
    """exp of the mean log-probability (nats) per label token, end of turn included: a geometric mean, 0 to 1."""
    return float(np.exp(np.mean(np.asarray(logp, dtype=float))))


def truth_ratio(right: float, wrong: Sequence[float]) -> float:
    """P_wrong / (P_right + 1e-10), with the geometric mean of the wrong answers' probabilities.

    Args:
        right: probability of the right answer: the paraphrased one where there is one, else the answer itself.
        wrong: probabilities of the false answers; each is already a geometric mean over its tokens.
    """
    return float(np.exp(np.mean(np.log(np.maximum(wrong, np.finfo(float).tiny))))) / (right + TINY)


def closer_to_1_better(ratios: Sequence[float]) -> float:
    """Mean of min(R, 1/R): on forgotten rows, 1 when the model can't tell true from false."""
    return float(np.mean([min(ratio, 1 / (ratio + TINY)) for ratio in ratios]))


def true_better(ratios: Sequence[float]) -> float:
    """Mean of max(0, 1 - R): on kept rows, high when the true answer is the more probable one."""
    return float(np.mean([max(0.0, 1 - ratio) for ratio in ratios]))


def normalised_probability(right: float, wrong: Sequence[float]) -> float:
    """The right answer's probability among all options, P_right / (P_right + sum of P_wrong + 1e-10)."""
    return right / (right + float(np.sum(wrong)) + TINY)


def forget_quality(ratios: Sequence[float], reference: Sequence[float]) -> float:
    """p-value of "the truth ratios on the forgotten rows are distributed as in a model that never saw them".

    Two-sided Kolmogorov-Smirnov test against a model retrained without the rows; of a model against itself exactly 1.
    """
    return ks_p_value(ratios, reference)


def model_utility(parts: Sequence[float]) -> float:
    """Harmonic mean of TOFU's nine: probability, ROUGE-L recall and truth ratio (true_better) on three sets.

    The sets are retained rows, real authors and world facts; the last two give option-normalised probabilities.
    """
    return harmonic_mean(parts)
