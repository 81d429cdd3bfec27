"""Memorability scores: two digits read from numeric tokens, predictions across brands, human consistency.

Paper:   Si et al., arXiv 2309.00378: at inference the softmax is over numeric tokens only, and the number is read.
Differs: the score is the expected value over all hundred numbers (the paper reads the most probable digits); folds are
         split by brand, because a random split lets a model know the brand's other ads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from letheon.measure.asking.responder import Responder
from letheon.measure.human.regression import ridge
from letheon.recall.embedders import Embedder

DIGITS = [str(digit) for digit in range(10)]
NUMBERS = [f"{number:02d}" for number in range(100)]
FOLDS = 5
Split = Literal["brand", "random"]


def number_distribution(
    first: Float[np.ndarray, " digits"], both: Float[np.ndarray, " numbers"]
) -> Float[np.ndarray, " numbers"]:
    """Compute the probability of each number 00 to 99 under decoding restricted to digits.

    p(d1 d2) = softmax(first)[d1] softmax(both[d1])[d2]: the digits are renormalised at each step. Where the tokenizer
    writes two digits as one token, `first` is no prefix of `both`, and `both` is renormalised at once.

    Args:
        first: log-probabilities of answers that begin with each digit, nats.
        both: log-probabilities of answers that begin with each number.

    Returns:
        Probabilities; NaN where no number has any.
    """
    table = both.reshape(10, 10)
    if not np.isfinite(table).any():
        return np.full(100, np.nan)
    if not np.all(first >= logsumexp(table, axis=1) - 1e-4):
        return np.asarray(np.exp(both - logsumexp(both)))
    lead = np.exp(first - logsumexp(first))
    with np.errstate(invalid="ignore"):
        second = np.nan_to_num(np.exp(table - logsumexp(table, axis=1, keepdims=True)))
    return np.asarray((lead[:, None] * second).reshape(100))


def henry_scores(responder: Responder, prompts: Sequence[str]) -> list[tuple[float | None, float]]:
    """Return for each prompt the expected number under decoding restricted to digits, and the numbers' probability."""
    logp = responder.option_logp([([prompt], [*DIGITS, *NUMBERS]) for prompt in prompts])
    scores: list[tuple[float | None, float]] = []
    for row in logp:
        p = number_distribution(row[:10], row[10:])
        value = None if np.isnan(p).any() else float(p @ np.arange(100))
        scores.append((value, float(min(1.0, np.exp(row[10:]).sum()))))
    return scores


def folds(groups: Sequence[str], split: Split, seed: int) -> list[tuple[list[int], list[int]]]:
    """Return (training, test) places of at most five folds: by brand, no brand on both sides; or at random."""
    from sklearn.model_selection import GroupKFold, KFold

    rows = np.arange(len(groups))
    if split == "brand":
        names = sorted(set(groups))
        order = dict(zip(np.random.default_rng(seed).permutation(names).tolist(), range(len(names)), strict=True))
        parts = GroupKFold(min(FOLDS, len(names))).split(rows, groups=[order[name] for name in groups])
    else:
        parts = KFold(min(FOLDS, len(rows)), shuffle=True, random_state=seed).split(rows)
    return [(train.tolist(), test.tolist()) for train, test in parts]


def across(
    features: Float[np.ndarray, "ads width"], scores: Sequence[float], parts: Sequence[tuple[list[int], list[int]]]
) -> list[float | None]:
    """Predict each ad by a ridge regression that was fitted on the folds without it."""
    predicted: list[float | None] = [None] * len(scores)
    for train, test in parts:
        fitted = ridge().fit(features[train], np.asarray(scores)[train])
        for place, value in zip(test, fitted.predict(features[test]), strict=True):
            predicted[place] = float(value)
    return predicted


def brand_means(
    brands: Sequence[str], scores: Sequence[float], parts: Sequence[tuple[list[int], list[int]]]
) -> list[float | None]:
    """Predict each ad by its brand's mean over the other folds, or by the overall mean where the brand is new."""
    predicted: list[float | None] = [None] * len(scores)
    for train, test in parts:
        overall = float(np.mean([scores[i] for i in train]))
        for place in test:
            own = [scores[i] for i in train if brands[i] == brands[place]]
            predicted[place] = float(np.mean(own)) if own else overall
    return predicted


def tfidf(texts: Sequence[str]) -> Float[np.ndarray, "ads words"]:
    """Compute TF-IDF vectors of words that stand in at least two texts; no score enters them."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return np.asarray(TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=2000).fit_transform(texts).toarray())


def embedded(embedder: Embedder, texts: Sequence[str]) -> Float[np.ndarray, "ads width"]:
    """Embed texts as the mean of their sentences' vectors: an embedder cuts long texts off."""
    pieces = [[one.strip() for one in text.replace("Scene ", ". Scene ").split(". ") if one.strip()] for text in texts]
    vectors = embedder.embed([piece for parts in pieces for piece in parts])
    ends = np.cumsum([len(parts) for parts in pieces])[:-1]
    return np.stack([part.mean(0) for part in np.split(vectors, ends)]).astype(float)
