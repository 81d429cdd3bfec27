"""Scores by the rubric, a jury's consensus and agreement, Fleiss' kappa, and tests for a U-shaped curve.

Source:  the rubric, the consensus and the agreement of rb125/cdct_framework; Fleiss (1971) for kappa.
Differs: a missing judge is left out and never counts as 0; a compliance of 0 is a score like any other. Bins of the
         scores for kappa are the rubric's bands [inferred].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from letheon.measure.compression_decay.rules import Rule

# Words over the limit, as a multiple of it, and the score of the rubric.
OVER = ((1.0, 1.0), (1.25, 0.8), (2.0, 0.5), (3.0, 0.2), (5.0, 0.0))
WEIGHTS = {"CC": 0.4, "SA": 0.4, "FC": 0.2}
BANDS = (0.35, 0.65, 0.95)  # lower ends of "twice over", "slightly over", "within"
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP = _words("""
    a an the and or but if of to in on at by for with from as is are was were be been being it its this that
    these those which who what when where how why not no nor so than then there here can could may might will
    would shall should do does did has have had i you he she we they them their our your his her one into over
    under about only also more most such each every any some all both between because while
""")


@cache
def stem(word: str) -> str:
    """Return a word's Porter stem in lower case."""
    from nltk.stem.porter import PorterStemmer

    return str(PorterStemmer().stem(word.lower()))


def content_stems(text: str) -> list[str]:
    """Return the stems of the words that carry content."""
    return [stem(word) for word in WORD.findall(text) if word.lower() not in STOP]


def word_count(text: str) -> int:
    """Count words."""
    return len(WORD.findall(text))


def sentence_count(text: str) -> int:
    """Count sentences: stretches with a word, ended by a full stop, a question mark, an exclamation mark or a line."""
    return sum(bool(WORD.search(part)) for part in re.split(r"[.!?]+(?:\s|$)|\n+", text))


def length_score(size: int, limit: int | None) -> float:
    """Score a length by the rubric: 1 within the limit, falling linearly between its points."""
    if limit is None:
        return 1.0
    over = size / limit
    for (x, y), (next_x, next_y) in pairwise(OVER):
        if over <= x:
            return y
        if over < next_x:
            return y + (next_y - y) * (over - x) / (next_x - x)
    return 0.0


def compliance(answer: str, text: str, rule: Rule) -> float:
    """Score constraint compliance: lengths by the rubric, times the share of content words that the text has."""
    if not WORD.search(answer):
        return 0.0
    score = min(length_score(word_count(answer), rule.words), length_score(sentence_count(answer), rule.sentences))
    stems = content_stems(answer)
    if rule.only_given and stems:
        given = set(content_stems(text))
        score *= sum(one in given for one in stems) / len(stems)
    return float(score)


def accuracy(answer: str, keywords: Sequence[str]) -> float | None:
    """Score semantic accuracy, whatever the length: the share of expected keywords whose stems the answer has.

    Without keywords there is no score: None.
    """
    stems = set(content_stems(answer))
    return float(np.mean([set(content_stems(keyword)) <= stems for keyword in keywords])) if keywords else None


def completeness(answer: str, question: str) -> float:
    """Score functional completeness: 1 if the answer speaks of what the question asks about, else 0."""
    asked = set(content_stems(question))
    return float(bool(asked & set(content_stems(answer))))


@dataclass(frozen=True)
class Consensus:
    """The scores of a jury on one answer.

    Attributes:
        scores: axis -> weighted mean over the judges that gave one; None where none did.
        agreement: 1 - 2 times the mean over axes of the judges' standard deviation, not below 0.
    """

    scores: Mapping[str, float | None]
    agreement: float | None

    @property
    def overall(self) -> float | None:
        """Weighted sum of the axes; None if one is missing."""
        known = {axis: value for axis, value in self.scores.items() if value is not None}
        return sum(WEIGHTS[axis] * known[axis] for axis in WEIGHTS) if set(WEIGHTS) <= set(known) else None


def consensus(
    judged: Sequence[Mapping[str, float | None]], weights: Mapping[str, Sequence[float]] | None = None
) -> Consensus:
    """Combine the scores of several judges.

    Args:
        judged: axis -> score, one mapping per judge; None where a judge gave none.
        weights: axis -> one weight per judge; equal ones by default.
    """
    scores: dict[str, float | None] = {}
    spreads = []
    for axis in WEIGHTS:
        own = (weights or {}).get(axis, [1.0] * len(judged))
        pairs = [(one.get(axis), weight) for one, weight in zip(judged, own, strict=True)]
        known = [(value, weight) for value, weight in pairs if value is not None]
        total = sum(weight for _, weight in known)
        scores[axis] = sum(value * weight for value, weight in known) / total if total else None
        if known:
            spreads.append(float(np.std([value for value, _ in known])))
    return Consensus(scores, float(np.clip(1 - 2 * np.mean(spreads), 0, 1)) if spreads else None)


def fleiss_kappa(counts: Int[np.ndarray, "items categories"]) -> float | None:
    """Compute Fleiss' kappa; None if all ratings are of one category or there are fewer than two raters.

    Args:
        counts: how many raters chose each category; every item has the same number of raters.
    """
    raters = int(counts[0].sum())
    if raters < 2:
        return None
    agreed = ((counts**2).sum(1) - raters) / (raters * (raters - 1))
    chance = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return None if chance == 1 else float((agreed.mean() - chance) / (1 - chance))


def kappa_of(scores: Sequence[Sequence[float]]) -> float | None:
    """Compute Fleiss' kappa of scores (one list of judges' scores per item) binned by the rubric's bands."""
    bins = np.digitize(np.asarray(scores), BANDS)
    counts = np.stack([(bins == band).sum(1) for band in range(len(BANDS) + 1)], axis=1)
    return fleiss_kappa(counts)


def is_u(curve: Sequence[float]) -> bool:
    """Whether the middle of five levels lies strictly below both ends."""
    return curve[2] < curve[0] and curve[2] < curve[-1]


def dip(curve: Sequence[float]) -> float:
    """Mean of the two ends minus the middle."""
    return (curve[0] + curve[-1]) / 2 - curve[2]


def quadratic_term(levels: Sequence[float], curve: Sequence[float]) -> float:
    """The coefficient of the squared level in a least-squares parabola: above 0 for a U, wherever its bottom lies."""
    fitted: Float[np.ndarray, " 3"] = np.polyfit(np.asarray(levels), np.asarray(curve), 2)
    return float(fitted[0])
