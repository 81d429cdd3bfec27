"""SEED: a judge selects memorable ads from a pool, a model learns to write them, and another judge rates the result.

Paper:   Si et al., arXiv 2309.00378: ads that Henry scores above 65 train a generator on both directions, from ad to
         score and from a request to an ad; an oracle that was trained on other data rates what is generated.
Differs: the oracle must be another object than the judge that selected: one that is both rates its own taste.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.measure.human.memorability.data import PROMPT

Judge = Callable[[Sequence[str]], Sequence[float]]
Train = Callable[[LanguageModel, Sequence[Example]], object]
THRESHOLD = 65.0  # of the paper, on the scale 0 to 99


@dataclass(frozen=True)
class Draft:
    """An ad of the pool: the request that asks for it, and its text."""

    request: str
    text: str


@dataclass(frozen=True)
class Generated:
    """The outcome of a SEED round.

    Attributes:
        selected: places of the pool's ads that trained the generator.
        texts: what it wrote, one per request.
        scores: the oracle's.
    """

    selected: list[int]
    texts: list[str]
    scores: list[float]


def request_for(brand: str, title: str = "", duration: float | None = None) -> str:
    """Return the request for a memorable advertisement, in the paper's form."""
    length = f"{duration:g} second " if duration is not None else ""
    titled = f'titled "{title}" ' if title else ""
    return f"Generate the detailed description of a {length}memorable advertisement {titled}for the brand {brand}"


def curate(scores: Sequence[float], threshold: float = THRESHOLD) -> list[int]:
    """Return the places of the ads with a score above the threshold.

    Raises:
        InputError: there is none.
    """
    places = [place for place, score in enumerate(scores) if score > threshold]
    if not places:
        raise InputError(f"no ad has a score above {threshold:g}", "lower the threshold, or give a larger pool")
    return places


def training_rows(drafts: Sequence[Draft], scores: Sequence[float]) -> list[Example]:
    """Return both directions: ad to score (behaviour simulation), request to ad (content simulation)."""
    rows = []
    for draft, score in zip(drafts, scores, strict=True):
        number = f"{min(99, max(0, round(score))):02d}"
        rows += [Example(PROMPT.fill(ad=draft.text), number), Example(draft.request, draft.text)]
    return rows


def seed_round(
    model: LanguageModel,
    pool: Sequence[Draft],
    judge: Judge,
    oracle: Judge,
    train: Train,
    requests: Sequence[str],
    *,
    threshold: float | None = THRESHOLD,
    both_directions: bool = True,
    max_new_tokens: int = 200,
    sampling: tuple[float, int] = (0.0, 0),
) -> Generated:
    """Select, fine-tune in place, generate, and let the oracle rate.

    Args:
        train: fine-tunes the model on rows.
        threshold: of the selection; None selects all ads, the control.
        sampling: temperature and seed with which the model writes; temperature 0 is greedy.

    Raises:
        InputError: judge and oracle are the same.
    """
    if judge == oracle:  # a bound method is a new object each time
        raise InputError("the judge that selects is also the oracle", "give an oracle that was fitted on other data")
    scores = judge([draft.text for draft in pool])
    selected = list(range(len(pool))) if threshold is None else curate(scores, threshold)
    chosen = [pool[i] for i in selected]
    rows = training_rows(chosen, [scores[i] for i in selected])
    train(model, rows if both_directions else rows[1::2])
    temperature, seed = sampling
    texts = generate(model, list(requests), max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    return Generated(selected, texts, [float(score) for score in oracle(texts)])


def perplexity(model: LanguageModel, drafts: Sequence[Draft]) -> float:
    """Compute the corpus perplexity exp(-sum log p / tokens) of ads given their requests."""
    scored = [answers[0].logp for answers in score_answers(model, [(draft.request, [draft.text]) for draft in drafts])]
    return float(np.exp(-sum(float(logp.sum()) for logp in scored) / sum(len(logp) for logp in scored)))
