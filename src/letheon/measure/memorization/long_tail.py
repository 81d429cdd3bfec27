"""The long-tail model: points with frequencies from a prior list, random labels, learners that fit them or do not.

Paper:   Feldman, Does Learning Require Memorization?, arXiv 1906.05271, Sec. 2: tau_l, the excess error of a learner
         that does not fit points seen l times, and the bound on tau_1.
Differs: the expectation over the marginal distribution of a frequency is estimated by draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Prior = Float[np.ndarray, " list"]


def zipf(points: int, exponent: float = 1.0) -> Prior:
    """Return 1 / rank^exponent for every rank."""
    return np.arange(1, points + 1, dtype=float) ** -exponent


def draw_frequencies(prior: Prior, points: int, rng: np.random.Generator) -> Float[np.ndarray, " points"]:
    """Draw every point's weight uniformly from the list and normalise: D(x) = p_x / sum of p."""
    weights = rng.choice(prior, points)
    return np.asarray(weights / weights.sum())


def marginal(prior: Prior, points: int, *, draws: int = 200, seed: int = 0) -> Float[np.ndarray, " samples"]:
    """Sample the marginal distribution of one point's frequency."""
    rng = np.random.default_rng(seed)
    return np.concatenate([draw_frequencies(prior, points, rng) for _ in range(draws)])


def tau(frequencies: Float[np.ndarray, " samples"], n: int, seen: int = 1) -> float:
    """Expected frequency of a point given that it was seen `seen` times among n draws.

    tau_l = E[a^(l+1) (1-a)^(n-l)] / E[a^l (1-a)^(n-l)] over the marginal distribution of a.
    """
    positive = frequencies[(frequencies > 0) & (frequencies < 1)]
    log_weight = seen * np.log(positive) + (n - seen) * np.log1p(-positive)
    weight = np.exp(log_weight - log_weight.max())
    return float((positive * weight).sum() / weight.sum())


def tau1_bound(frequencies: Float[np.ndarray, " samples"], n: int, points: int) -> float:
    """Lower bound of tau_1: (1 / 5n) times the expected mass of points with frequency in [1/3n, 2/n]."""
    band = (frequencies >= 1 / (3 * n)) & (frequencies <= 2 / n)
    return float(points * (frequencies * band).mean() / (5 * n))


@dataclass(frozen=True)
class LongTail:
    """One simulated sample and the errors of two learners of random labels.

    Attributes:
        singletons: points that were seen once.
        memorising, ignoring: expected error of a table of all seen points, and of one that guesses on singletons.
        predicted: excess error of the second by the theory, tau_1 times the expected number of wrong singletons.
    """

    singletons: int
    memorising: float
    ignoring: float
    predicted: float

    @property
    def excess(self) -> float:
        """Additional error of the learner that does not fit singletons."""
        return self.ignoring - self.memorising


def simulate(
    prior: Prior, points: int, n: int, *, labels: int = 10, tau1: float | None = None, seed: int = 0
) -> LongTail:
    """Draw a distribution and a sample and compute both learners' expected errors; unseen points are guessed."""
    rng = np.random.default_rng(seed)
    frequencies = draw_frequencies(prior, points, rng)
    counts = np.bincount(rng.choice(points, n, p=frequencies), minlength=points)
    wrong = 1 - 1 / labels
    unseen, once = float(frequencies[counts == 0].sum()), float(frequencies[counts == 1].sum())
    singletons = int((counts == 1).sum())
    tau1 = tau(marginal(prior, points, draws=20, seed=seed), n) if tau1 is None else tau1
    return LongTail(singletons, wrong * unseen, wrong * (unseen + once), tau1 * wrong * singletons)
