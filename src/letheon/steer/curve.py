"""Effect against side effects of a steering over strengths, beside random directions of equal norms.

The effect is the target rate: the mean probability, by a classifier fitted on the two sets of texts, that a generated
continuation belongs to the wanted set. The classifier sees the text only: its words, or the states in which the model
without steering reads it (after two thirds of the layers), which know words that the two sets lack. Side effects are
the perplexity of neutral text, the KL divergence of the next token after each prompt, refusals, and repetition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.core.progress import progress
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.core.scoring.refusals import refuses
from letheon.core.statistics import Estimate, estimate_mean
from letheon.probe.linear_probes import right_padded, site_states
from letheon.steer.apply import steered
from letheon.steer.steering import Steering
from letheon.steer.texts import Contrast, read_texts, token_rows

HERE = Path(__file__).parent
NEUTRAL, PROMPTS = HERE / "neutral.txt", HERE / "prompts.txt"
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
# A strength is recommended if neutral text keeps this share of its perplexity and text repeats hardly more.
MOST_PERPLEXITY, MOST_REPETITION = 1.2, 0.1
# The model has collapsed: perplexity times this, or so much more of the generated text is repetition.
COLLAPSE_PERPLEXITY, COLLAPSE_REPETITION = 2.0, 0.4
GRAM = 3
# The classifier of continuations: the share of layers below the states that it sees, and its inverse regularisation.
JUDGE_DEPTH, JUDGE_C = 2 / 3, 0.01
Judge = Literal["states", "words"]
Classify = Callable[[Sequence[str]], list[float]]


@dataclass(frozen=True)
class CurveSettings:
    """The extent of a curve.

    Attributes:
        strengths: strengths to measure; 0 is always measured.
        random: number of random directions of equal norms per strength.
        max_new_tokens: length of a continuation, tokens.
        seed: seed of the random directions.
        judge: what the classifier of continuations sees: `states` of the unsteered model that reads them, or `words`.
    """

    strengths: tuple[float, ...] = STRENGTHS
    random: int = 2
    max_new_tokens: int = 32
    seed: int = 0
    judge: Judge = "states"

    def __post_init__(self) -> None:
        if not self.strengths or not all(map(math.isfinite, self.strengths)):
            raise InputError(f"strengths {self.strengths}", "give finite numbers")
        if self.random < 0 or self.max_new_tokens < 1:
            raise InputError(
                f"{self.random} random directions, {self.max_new_tokens} new tokens", "give at least 0 and 1"
            )
        if self.judge not in get_args(Judge):
            raise InputError(f"judge {self.judge!r}", "one of " + ", ".join(get_args(Judge)))


@dataclass(frozen=True)
class Point:
    """The measurements at one strength.

    Attributes:
        strength: the strength.
        target: probability that a continuation is of the wanted set, mean over prompts with its interval.
        perplexity: of the neutral text.
        kl: KL divergence (nats) of the next token after each prompt, from the model as it is; mean.
        refusals: share of continuations that refuse.
        repetition: share of word trigrams that occurred before in the same continuation; mean.
        answers: the continuations, in the order of the prompts.
        rates: per continuation the probability whose mean is the target rate.
    """

    strength: float
    target: Estimate
    perplexity: float
    kl: float
    refusals: float
    repetition: float
    answers: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Curve:
    """A whole curve.

    Attributes:
        model: the model's name.
        methods: the steerings' methods.
        points: one per strength, in ascending order.
        random: per random direction its points.
        classifier_accuracy: cross-validated accuracy of the classifier on the two sets; 0.5 makes the target rate void.
        recommended: the strength to use; None if none helps beyond the random directions.
        reason: why.
        collapsed: strengths at which the model collapses.
        prompts: the prompts that were continued.
        settings: the extent.
    """

    model: str
    methods: tuple[str, ...]
    points: tuple[Point, ...]
    random: tuple[tuple[Point, ...], ...]
    classifier_accuracy: float
    recommended: float | None
    reason: str
    collapsed: tuple[float, ...]
    prompts: tuple[str, ...]
    settings: CurveSettings


def measure_curve(
    model: LanguageModel,
    steerings: Sequence[Steering],
    contrast: Contrast,
    *,
    prompts: Sequence[str] | None = None,
    neutral: Sequence[str] | None = None,
    settings: CurveSettings | None = None,
) -> Curve:
    """Measure a steering and random ones of equal norms over strengths.

    Args:
        prompts: questions to answer; eight neutral ones by default.
        neutral: running text for the perplexity; six short paragraphs by default.
    """
    options = settings or CurveSettings()
    asked = list(prompts or (row.answer for row in read_texts(PROMPTS)))
    prose = list(neutral or (row.answer for row in read_texts(NEUTRAL)))
    classify, accuracy = word_classifier(contrast) if options.judge == "words" else state_classifier(model, contrast)
    plain = next_token_logits(model, asked)
    strengths = sorted({0.0, *options.strengths})
    drawn = [
        [one.random_like(options.seed + 1000 * k + i) for i, one in enumerate(steerings)] for k in range(options.random)
    ]
    arms = [list(steerings), *drawn]
    curves: list[list[Point]] = []
    with progress("measuring the curve", len(arms) * len(strengths)) as advance:
        for arm in arms:
            points: list[Point] = []
            for strength in strengths:
                if strength == 0 and curves:
                    points.append(curves[0][strengths.index(0.0)])
                else:
                    points.append(_measure(model, arm, strength, asked, prose, plain, classify, options.max_new_tokens))
                advance(len(curves) * len(strengths) + len(points), f"strength {strength:g}")
            curves.append(points)
    ours, random = tuple(curves[0]), tuple(tuple(points) for points in curves[1:])
    best, reason = recommend(ours, random, accuracy)
    broken = tuple(point.strength for point in ours if collapses(point, _start(ours)))
    methods = tuple(one.method for one in steerings)
    return Curve(model.name, methods, ours, random, accuracy, best, reason, broken, tuple(asked), options)


def _measure(
    model: LanguageModel,
    steerings: Sequence[Steering],
    strength: float,
    prompts: Sequence[str],
    neutral: Sequence[str],
    plain: Tensor,
    classify: Classify,
    max_new_tokens: int,
) -> Point:
    with steered(model, steerings, strength):
        answers = generate(model, prompts, max_new_tokens=max_new_tokens)
        logits = next_token_logits(model, prompts)
        perplexity = text_perplexity(model, neutral)
    rates = classify(answers)
    return Point(
        strength,
        estimate_mean(rates),
        perplexity,
        kl_divergence(plain, logits),
        float(np.mean([refuses(answer) for answer in answers])),
        float(np.mean([repetition(answer) for answer in answers])),
        tuple(answers),
        tuple(rates),
    )


def word_classifier(contrast: Contrast) -> tuple[Classify, float]:
    """Fit a logistic regression on words and pairs of words; return it with its cross-validated accuracy."""
    words: dict[str, Any] = {"ngram_range": (1, 2), "sublinear_tf": True, "token_pattern": r"(?u)\b\w+\b|[!?]"}
    return _fitted(contrast, list, TfidfVectorizer(**words), 10.0)


def state_classifier(model: LanguageModel, contrast: Contrast) -> tuple[Classify, float]:
    """Fit a logistic regression on the mean states of a model that reads the texts; return it with its accuracy."""
    site = Site(int(JUDGE_DEPTH * len(blocks(model.base()))))

    def read(texts: Sequence[str]) -> np.ndarray:
        # an empty continuation is read as a line break
        rows = token_rows(model, [Example("", text or "\n") for text in texts])
        return np.asarray(site_states(model, rows, [site], position="mean")[0].cpu().numpy())

    return _fitted(contrast, read, StandardScaler(), JUDGE_C)


def _fitted(
    contrast: Contrast, read: Callable[[Sequence[str]], Any], features: Any, c: float
) -> tuple[Classify, float]:
    """Fit a classifier on what is read of both sets; its accuracy is that on texts that it was not fitted on."""
    texts = read([row.answer for row in (*contrast.toward, *contrast.away)])
    labels = np.r_[np.ones(len(contrast.toward)), np.zeros(len(contrast.away))]
    made = make_pipeline(features, LogisticRegression(C=c, class_weight="balanced", max_iter=2000))
    folds = min(5, len(contrast.toward), len(contrast.away))
    accuracy = float((cross_val_predict(made, texts, labels, cv=folds) == labels).mean())
    fitted = made.fit(texts, labels)
    return (lambda given: fitted.predict_proba(read(list(given)))[:, 1].tolist()), accuracy


@torch.inference_mode()
def next_token_logits(model: LanguageModel, prompts: Sequence[str]) -> Float[Tensor, "prompts vocabulary"]:
    """Compute the logits of the first token of each answer."""
    rows = [model.encoder().prompt(prompt) for prompt in prompts]
    ids, mask = right_padded(model, rows)
    logits = model.base()(ids, attention_mask=mask.long(), use_cache=False).logits
    return logits[torch.arange(len(rows), device=ids.device), mask.sum(1) - 1].float().cpu()


def kl_divergence(before: Float[Tensor, "rows vocabulary"], after: Float[Tensor, "rows vocabulary"]) -> float:
    """Compute KL(before ‖ after) in nats, mean over rows."""
    one, other = before.log_softmax(-1), after.log_softmax(-1)
    return float((one.exp() * (one - other)).sum(-1).mean())


def text_perplexity(model: LanguageModel, texts: Sequence[str]) -> float:
    """Compute the perplexity of running texts, over all their tokens but each first one without a predecessor."""
    scores = [score for (score,) in score_answers(model, [("", [text]) for text in texts])]
    total = sum(-float(score.logp.sum()) for score in scores) / max(sum(len(score.logp) for score in scores), 1)
    return math.exp(min(total, 50.0))


def repetition(text: str) -> float:
    """Compute the share of word trigrams that occurred before in the text.

    >>> repetition("a b c a b c")
    0.25
    """
    words = text.split()
    grams = [tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _start(points: Sequence[Point]) -> Point:
    return next(point for point in points if point.strength == 0)


def collapses(point: Point, start: Point) -> bool:
    """Return whether a model has collapsed at a point, compared with strength 0; a perplexity of no number counts."""
    return (
        not point.perplexity <= COLLAPSE_PERPLEXITY * start.perplexity
        or point.repetition > start.repetition + COLLAPSE_REPETITION
    )


def gain(point: Point, others: Sequence[Point]) -> Estimate:
    """Estimate, over prompts, by how much a point's rates exceed the mean of other points' rates."""
    return estimate_mean((np.array(point.rates) - np.mean([one.rates for one in others], 0)).tolist())


def highest(random: Sequence[Sequence[Point]], at: int) -> float | None:
    """Return the highest target rate of the random directions at the strength of that place; None without any."""
    return max((arm[at].target.value or 0.0 for arm in random), default=None)


def recommend(
    points: Sequence[Point], random: Sequence[Sequence[Point]], classifier_accuracy: float
) -> tuple[float | None, str]:
    """Choose the strength of the highest target rate among those with small side effects; return it with the reason.

    A strength counts only if its target rate is above that of every random direction there, and above the rates of the
    model as it is and of the random directions by more than chance (95 % intervals of the differences over prompts):
    the best of several strengths is above single random directions by luck often.
    """
    start = _start(points)
    if classifier_accuracy < 0.7:
        return None, f"the two sets of texts cannot be told apart (accuracy {classifier_accuracy:.2f})"
    if len(start.rates) == 1:
        return None, "one prompt does not show what is more than chance"
    fit = []
    for at, point in enumerate(points):
        rate = point.target.value or 0.0
        mild = point.perplexity <= MOST_PERPLEXITY * start.perplexity
        fluent = point.repetition <= start.repetition + MOST_REPETITION
        if point.strength == 0 or not mild or not fluent or rate <= (highest(random, at) or 0.0):
            continue
        compared = [[start], *([[arm[at] for arm in random]] if random else [])]
        if all((gain(point, others).low or 0.0) > 0 for others in compared):
            fit.append((rate, -abs(point.strength), point))
    if not fit:
        return None, (
            "no strength with small side effects raises the target rate, by more than chance, above the model as it is"
            + (" and the random directions" if random else "")
        )
    best = max(fit, key=lambda one: one[:2])[2]
    cost = best.perplexity / start.perplexity - 1
    return best.strength, (
        f"target rate {best.target.value:.2f} instead of {start.target.value:.2f}, perplexity {cost:+.0%}, "
        + ("above every random direction" if random else "compared with no random direction")
    )
