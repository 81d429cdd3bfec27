"""Long-Term Ad Memorability: Understanding and Generating Memorable Ads.

arXiv 2309.00378, 2023-09; WACV 2025; Si et al. Full scale in the paper: 2,205 video ads, a 13B model with vision.
Here: simulated ads with a planted law of memorability. A small language model learns to answer two digits (Henry), and
a round of SEED selects ads by a judge that was fitted on one half of the scores; the law itself is the oracle. Where
`LETHEON_DATA` has a folder `ad_memorability` with LAMBDA's released files, the baselines are reported on real ads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.human.memorability.data import made_ad, read_ads
from letheon.measure.human.memorability.measure import Memorability, correlated
from letheon.measure.human.memorability.scoring import henry_scores
from letheon.measure.human.memorability.seed_loop import Draft, Generated, perplexity, request_for, seed_round
from letheon.measure.human.memorability.simulator import BRANDS, PlantedAd, law_of, simulate_ads
from letheon.measure.human.regression import ridge
from letheon.papers.common.small_llama import teach, template_llama
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale

ADS, TRAINED = 500, 400
STEPS = {"fast": (200, 120), "full": (900, 400)}  # of the scorer, of a generator
POOL = 200
LENGTH = 60  # tokens of a generated ad
CEILING = "scorer: rank correlation as a share of the noise ceiling"
SELECTED = "SEED: the oracle's score of written ads, selected minus unfiltered training"
PERPLEXITY = "SEED: perplexity of memorable minus unmemorable ads"
PRIMARY = (CEILING, SELECTED, PERPLEXITY)


def reproduce(scale: Scale, found: Findings) -> None:
    """Recover the planted law by a scorer, and write more memorable ads by SEED."""
    found.baselines += ["shuffled scores", "ridge on TF-IDF and on features", "training without selection"]
    rows = [one_seed(seed, *STEPS[scale.name]) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)
    real(found)


def judge(rows: Sequence[dict[str, Any]], found: Findings) -> None:
    """Decide on the scorer's share of the ceiling, and on what selection adds to the written ads."""

    def of(name: str) -> list[Any]:
        return [row[name] for row in rows]

    found.decide(CEILING, of("share of ceiling"), above=0.8)
    found.decide(SELECTED, Pairs(of("written, unfiltered"), of("written, selected")), above=0.0)
    found.decide(PERPLEXITY, Pairs(of("perplexity, low"), of("perplexity, high")), below=0.0)
    found.report("scorer with shuffled scores, rho", of("rho shuffled"), below=0.3)
    found.report("scorer minus ridge on TF-IDF, rho", Pairs(of("rho tfidf"), of("rho scorer")))
    for name in ("rho scorer", "rho tfidf", "ceiling", "selected"):
        found.report(name, of(name))


def one_seed(seed: int, steps: int, generator_steps: int) -> dict[str, Any]:
    """Train a scorer on true and on shuffled scores, and generators with and without selection."""
    planted = simulate_ads(ADS, seed)
    ads = [made_ad(one.content) for one in planted]
    human = [ad.score for ad in ads]
    test = list(range(TRAINED, ADS))
    held_out = [human[i] for i in test]
    ceiling = correlated("", [planted[i].law for i in test], held_out).estimate.value or 0.0
    mixed = np.random.default_rng(seed).permutation(human[:TRAINED]).tolist()
    row: dict[str, Any] = {"seed": seed, "ceiling": ceiling}
    for name, scores in (("rho scorer", human[:TRAINED]), ("rho shuffled", mixed)):
        rows = [Example(ad.prompt, f"{round(score):02d}") for ad, score in zip(ads, scores, strict=False)]
        model = template_llama(rows, [ad.prompt for ad in ads], seed, context=192)
        teach(model, rows, seed, steps, title="scorer")
        values = [value for value, _ in henry_scores(LocalResponder(model), [ads[i].prompt for i in test])]
        row[name] = correlated("", values, held_out).estimate.value or 0.0
    fitted = ridge_judge([ad.text for ad in ads[:TRAINED]], human[:TRAINED])
    row["rho tfidf"] = correlated("", list(fitted([ads[i].text for i in test])), held_out).estimate.value or 0.0
    row["share of ceiling"] = row["rho scorer"] / ceiling
    return row | seed_rows(planted, seed, generator_steps)


def ridge_judge(texts: Sequence[str], scores: Sequence[float]) -> Callable[[Sequence[str]], list[float]]:
    """Fit a judge of texts: a ridge regression on TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    fitted = ridge().fit(words.fit_transform(texts).toarray(), scores)
    return lambda new: [float(value) for value in fitted.predict(words.transform(new).toarray())]


def seed_rows(planted: Sequence[PlantedAd], seed: int, steps: int) -> dict[str, Any]:
    """Write ads after training on selected ones and, for control, on as many updates over the whole pool."""
    ads = [made_ad(one.content) for one in planted]
    texts = [ad.text for ad in ads]
    half = ADS - POOL
    judged = ridge_judge(texts[:half], [ad.score for ad in ads[:half]])
    pool = [Draft(request_for(ad.brand), ad.text) for ad in ads[half:]]
    top = float(np.quantile(judged([draft.text for draft in pool]), 2 / 3))
    rows = [
        Example(draft.request, draft.text) for draft in (*pool, *(Draft(request_for(ad.brand), ad.text) for ad in ads))
    ]

    def oracle(written: Sequence[str]) -> list[float]:
        return [law_of(text) for text in written]

    def run(threshold: float | None) -> tuple[LanguageModel, Generated]:
        model = template_llama(rows, (), seed, context=192)
        train = partial(_trained, seed=seed, steps=steps)
        requests = [request_for(brand) for brand in BRANDS] * 2
        out = seed_round(
            model, pool, judged, oracle, train, requests, threshold=threshold, both_directions=False,
            max_new_tokens=LENGTH, sampling=(1.0, seed),
        )  # fmt: skip
        return model, out

    (model, selected), (_, unfiltered) = run(top), run(None)
    law = [law_of(text) for text in texts[:half]]
    low, high = np.quantile(law, [1 / 3, 2 / 3])
    corpora = {
        "low": [Draft(request_for(ads[i].brand), texts[i]) for i in range(half) if law[i] < low],
        "high": [Draft(request_for(ads[i].brand), texts[i]) for i in range(half) if law[i] > high],
    }
    return {
        "written, selected": float(np.mean(selected.scores)),
        "written, unfiltered": float(np.mean(unfiltered.scores)),
        "selected": len(selected.selected),
        **{f"perplexity, {name}": perplexity(model, drafts[:60]) for name, drafts in corpora.items()},
    }


def _trained(model: LanguageModel, rows: Sequence[Example], *, seed: int, steps: int) -> None:
    teach(model, rows, seed, steps, title="generator")


def real(found: Findings) -> None:
    """Report the baselines on LAMBDA's released test ads, where they are at hand."""
    folder = Path(os.environ.get("LETHEON_DATA", "")) / "ad_memorability"
    if not os.environ.get("LETHEON_DATA") or not folder.is_dir():
        found.measured["LAMBDA"] = "not at hand: set LETHEON_DATA"
        return
    ads = read_ads(str(folder))
    human = [ad.score for ad in ads]
    for name, values in Memorability(tuple(ads)).baselines().items():
        estimate = correlated(name, values, human).estimate
        found.measured[f"LAMBDA, rho {name}"] = estimate.value
        found.intervals[f"LAMBDA, rho {name}"] = [estimate.low, estimate.high]
