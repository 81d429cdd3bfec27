"""Ratings that a model gives by the probabilities of the scale's points.

Source: the read-outs of WordsGPT/psycholinguistics_framework (arXiv 2509.14405, 2506.22439): the most probable point,
        and the expected value over the points, renormalised.
Differs: all points of the scale are read from the whole vocabulary; the reference sees five alternatives and takes
        numbers outside the scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from letheon.measure.asking.responder import OptionLogp, Responder, Turns

LEAST_MASS = 0.5  # below it the scale's points hold too little of the probability to speak for the answer


@dataclass(frozen=True)
class Rating:
    """A model's rating of one item; every number is None where no point of the scale has any probability.

    Attributes:
        expected: probability-weighted mean of the points, renormalised.
        argmax: the most probable point.
        mass: probability of all points together.
        entropy: of the renormalised distribution, nats.
    """

    expected: float | None
    argmax: float | None
    mass: float
    entropy: float | None


def read_rating(logp: OptionLogp, points: Sequence[float]) -> Rating:
    """Compute a rating from the log-probabilities of the scale's points."""
    p = np.exp(logp)
    mass = float(p.sum())
    if mass <= 0 or not math.isfinite(mass):
        return Rating(None, None, 0.0, None)
    share = p / mass
    positive = share[share > 0]
    entropy = float(-(positive * np.log(positive)).sum())
    return Rating(float((share * np.asarray(points)).sum()), float(points[int(p.argmax())]), min(mass, 1.0), entropy)


def rate(responder: Responder, conversations: Sequence[Turns], points: Sequence[int]) -> list[Rating]:
    """Ask for a rating of each item."""
    options = [str(point) for point in points]
    found = responder.option_logp([(turns, options) for turns in conversations])
    return [read_rating(logp, points) for logp in found]
