"""Priming: how far a text that was learned leaks its key word into other contexts, and whether that was foreseeable.

Paper:   Sun et al., How new data permeates LLM knowledge and how to dilute it, arXiv 2504.09522.
         S_mem = P_after(key | own prefix) / P_before(key | own prefix);
         S_prime = mean over the theme's prefixes of P_after(key | prefix) / P_before(key | prefix);
         predictor: log P_before(key | own prefix), expected to fall as log S_prime rises.
Differs: P of a key word of several tokens is their product [inferred]. Everything is kept as logarithms (nats). The
         mean of ratios can be one prefix's work, so the mean log ratio and the plain change of probability stand beside
         it, and the correlation is also taken within each key word: a few words would else carry it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import logsumexp
from scipy.stats import pearsonr

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import short
from letheon.core.scoring.answer_trees import score_tokens
from letheon.core.statistics import Estimate, estimate_mean, rank_correlation

# Below about this probability priming appears, above it hardly (the paper's change of regime).
THRESHOLD = 1e-3


@dataclass(frozen=True)
class Sample:
    """A text to learn.

    Attributes:
        text: begins with the prefix, directly followed by the key word (with the space between them, if any).
        prefix: ends before that space.
        theme: what kind of word it is (a colour, a place).
        category: what kind of text it is, from plain fact to nonsense.

    Raises:
        InputError: the key word does not follow the prefix.
    """

    text: str
    prefix: str
    keyword: str
    theme: str
    category: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        if not self.prefix or not self.text.startswith((self.prefix + " " + self.keyword, self.prefix + self.keyword)):
            raise InputError(
                f"sample {self.id}: {short(self.text)} does not begin with the prefix {short(self.prefix)} and the key "
                f"word {short(self.keyword)}",
                "give the words of the text before its key word as the prefix, without the last space",
            )


@torch.inference_mode()
def keyword_logp(
    model: LanguageModel, prefixes: Sequence[str], keywords: Sequence[str]
) -> Float[np.ndarray, " prefixes"]:
    """log P(key word | prefix) in nats: running text, the key word's tokens as they are read after the prefix.

    Args:
        prefixes, keywords: pairs; a space is put between them unless the prefix ends in one.
    """
    encoder = model.encoder()
    questions = []
    for prefix, keyword in zip(prefixes, keywords, strict=True):
        begin = prefix.rstrip(" ")
        ids, spans = encoder.answer(f"{begin} {keyword}", end=False)
        first = next(i for i, (_, stop) in enumerate(spans) if stop > len(begin))
        start = encoder.prompt("")
        if not (*start, *ids[:first]):
            raise InputError(f"prefix {short(prefix)} has no token", "give a prefix of at least a word")
        questions.append(([*start, *ids[:first]], [ids[first:]]))
    return np.array([float(scores[0].logp.sum()) for scores in score_tokens(model, questions)])


@dataclass(frozen=True)
class Reading:
    """Log-probabilities of one sample's key word, nats.

    Attributes:
        own: log P after the sample's own prefix.
        theme: [prefixes] log P after the theme's prefixes.
        other: [prefixes] the same after another theme's: these should hardly move.
    """

    own: float
    theme: Float[np.ndarray, " prefixes"]
    other: Float[np.ndarray, " others"]


def read_samples(
    model: LanguageModel, samples: Sequence[Sample], prefixes: Mapping[str, Sequence[str]]
) -> list[Reading]:
    """Every sample's reading; all prefixes of all samples go through the model together.

    Args:
        prefixes: by theme; short contexts whose natural next word is of that theme. They must not be learned.

    Raises:
        InputError: a theme without prefixes.
    """
    themes = list(prefixes)
    contexts: list[str] = []
    words: list[str] = []
    for sample in samples:
        if not prefixes.get(sample.theme):
            raise InputError(f"sample {sample.id}: theme {sample.theme!r} has no prefixes", f"themes: {themes}")
        here = [sample.prefix, *prefixes[sample.theme], *prefixes[_other(themes, sample.theme)]]
        contexts += here
        words += [sample.keyword] * len(here)
    logp, readings, at = keyword_logp(model, contexts, words), [], 0
    for sample in samples:
        own, other = len(prefixes[sample.theme]), len(prefixes[_other(themes, sample.theme)])
        theme_end = at + 1 + own
        readings.append(Reading(float(logp[at]), logp[at + 1 : theme_end], logp[theme_end : theme_end + other]))
        at = theme_end + other
    return readings


def _other(themes: Sequence[str], theme: str) -> str:
    return themes[(themes.index(theme) + 1) % len(themes)]


def log_priming(before: Float[np.ndarray, " prefixes"], after: Float[np.ndarray, " prefixes"]) -> float:
    """log S_prime = log mean_j P_after / P_before from log-probabilities, nats."""
    return float(logsumexp(after - before) - math.log(len(before)))


@dataclass(frozen=True)
class Priming:
    """One sample before and after something was learned.

    Attributes:
        cure: what was done to the change of the weights; empty for nothing.
    """

    sample: Sample
    before: Reading
    after: Reading
    cure: str = ""

    @property
    def log_memorisation(self) -> float:
        """log S_mem, nats."""
        return self.after.own - self.before.own

    @property
    def log_priming(self) -> float:
        """log S_prime, nats."""
        return log_priming(self.before.theme, self.after.theme)

    def to_json(self) -> dict[str, Any]:
        """A row of a tidy table: every figure can be drawn again from it."""
        change = np.exp(self.after.theme) - np.exp(self.before.theme)
        return {
            "id": self.sample.id,
            "keyword": self.sample.keyword,
            "theme": self.sample.theme,
            "category": self.sample.category,
            "cure": self.cure,
            "logp before": self.before.own,
            "logp after": self.after.own,
            "log memorisation": self.log_memorisation,
            "log priming": self.log_priming,
            "mean log ratio": float((self.after.theme - self.before.theme).mean()),
            "mean change of probability": float(change.mean()),
            "log priming, another theme": log_priming(self.before.other, self.after.other),
            "theme before": self.before.theme.tolist(),
            "theme after": self.after.theme.tolist(),
        }


@dataclass(frozen=True)
class Prediction:
    """The correlation of the probability before learning with the priming after it.

    Attributes:
        spearman: rank correlation of log P_before and log S_prime; the paper expects it below 0.
        pearson: of the same; None where one of them is constant.
        within: mean over key words of the rank correlation among a word's own samples.
        below, above: mean log S_prime of samples below and above `THRESHOLD`; None where there are none.
    """

    spearman: Estimate
    pearson: float | None
    within: Estimate
    below: float | None
    above: float | None


def predict(results: Sequence[Priming]) -> Prediction:
    """Correlate log P_before(key | own prefix) with log S_prime over samples."""
    known = np.array([result.before.own for result in results])
    primed = np.array([result.log_priming for result in results])
    constant = len(results) < 2 or np.ptp(known) == 0 or np.ptp(primed) == 0
    groups: dict[str, list[int]] = {}
    for number, result in enumerate(results):
        groups.setdefault(result.sample.keyword, []).append(number)
    each = [rank_correlation(known[at].tolist(), primed[at].tolist()).value for at in groups.values()]
    inner = [value for value in each if value is not None]
    rare = known < math.log(THRESHOLD)
    return Prediction(
        rank_correlation(known.tolist(), primed.tolist()),
        None if constant else float(pearsonr(known, primed).statistic),
        estimate_mean(inner),
        *(float(primed[chosen].mean()) if chosen.any() else None for chosen in (rare, ~rare)),
    )
