"""Long-Term Ad Memorability: Understanding and Generating Memorable Ads.

arXiv 2309.00378, 2023-09; WACV 2025; Si et al. Full scale in the paper: 2,205 video ads, a 13B model with vision.
Here: simulated ads with a planted law of memorability. A small language model learns to answer two digits (Henry), and
a round of SEED selects ads by a judge that was fitted on one half of the scores; the law itself is the oracle. The
scorer and both generators, with and without selection, have each the learning rate that is best by what is judged on a
seed of its own. Perplexities are compared with those of the generator without selection: memorable ads may be easier to
predict for any model. Where `LETHEON_DATA` has a folder `ad_memorability` with LAMBDA's released files, the baselines
are reported on real ads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.measure.asking.responder import LocalResponder
from letheon.measure.human.memorability.data import made_ad, read_ads
from letheon.measure.human.memorability.measure import Memorability, correlated
from letheon.measure.human.memorability.scoring import henry_scores
from letheon.measure.human.memorability.seed_loop import Draft, Generated, perplexity, request_for, seed_round
from letheon.measure.human.memorability.simulator import BRANDS, PlantedAd, law_of, simulate_ads
from letheon.measure.human.regression import ridge
from letheon.papers.common.data import data_folder
from letheon.papers.common.small_llama import teach, template_llama
from letheon.papers.kit.findings import Columns, Findings
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale

ADS, TRAINED = 500, 400
STEPS = {"fast": (300, 120), "full": (1500, 400)}  # of the scorer, of a generator
RATES, TUNING_SEEDS = (2e-3, 4e-3), (100,)
BATCH = 16
POOL = 200
LENGTH = 60  # tokens of a generated ad
CEILING = "scorer: rank correlation as a share of the noise ceiling"
SELECTED = "SEED: the oracle's score of written ads, selected minus unfiltered training"
PERPLEXITY = "SEED: log perplexity of memorable minus unmemorable ads, selected minus unfiltered training"
PRIMARY = (CEILING, SELECTED, PERPLEXITY)


def reproduce(scale: Scale, found: Findings) -> None:
    """Recover the planted law by a scorer, and write more memorable ads by SEED."""
    found.baselines += ["shuffled scores", "ridge on TF-IDF and on features", "training without selection"]
    steps, generator_steps = STEPS[scale.name]

    def score(arm: str, rate: float, seed: int) -> float:
        planted = simulate_ads(ADS, seed)
        if arm == "scorer":
            return scored(planted, seed, steps, rate, shuffled=False)
        return float(np.mean(written(planted, seed, generator_steps, rate, arm == "selected")[1].scores))

    rates = choose(found, dict.fromkeys(("scorer", "selected", "unfiltered"), RATES), score, TUNING_SEEDS)
    rows = [one_seed(seed, steps, generator_steps, rates) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)
    real(found)


def judge(rows: Sequence[dict[str, Any]], found: Findings) -> None:
    """Decide on the scorer's share of the ceiling, and on what selection adds to the written ads."""
    of = Columns(rows)
    found.decide(CEILING, of("share of ceiling"), above=0.8)
    found.decide(SELECTED, of.pairs("written, selected", "written, unfiltered"), above=0.0)
    found.decide(PERPLEXITY, of.pairs("gap, selected", "gap, unfiltered"), below=0.0)
    found.report("SEED: log perplexity of memorable minus unmemorable ads", of("gap, selected"), below=0.0)
    found.report("scorer with shuffled scores, rho", of("rho shuffled"), below=0.3)
    found.report("scorer minus ridge on TF-IDF, rho", of.pairs("rho scorer", "rho tfidf"))
    for name in ("rho scorer", "rho tfidf", "ceiling", "selected"):
        found.report(name, of(name))


def one_seed(seed: int, steps: int, generator_steps: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """Train a scorer on true and on shuffled scores, and generators with and without selection."""
    planted = simulate_ads(ADS, seed)
    ads = [made_ad(one.content) for one in planted]
    human, test = [ad.score for ad in ads], range(TRAINED, ADS)
    held_out = [human[i] for i in test]
    ceiling = rho([planted[i].law for i in test], held_out)
    fitted = ridge_judge([ad.text for ad in ads[:TRAINED]], human[:TRAINED])
    row: dict[str, Any] = {"seed": seed, "ceiling": ceiling}
    for name, shuffled in (("rho scorer", False), ("rho shuffled", True)):
        row[name] = scored(planted, seed, steps, rates["scorer"], shuffled)
    row["rho tfidf"] = rho(fitted([ads[i].text for i in test]), held_out)
    row["share of ceiling"] = row["rho scorer"] / ceiling
    return row | seed_rows(planted, seed, generator_steps, rates)


def rho(values: Sequence[float | None], human: Sequence[float]) -> float:
    """Rank correlation; 0 where the values are constant."""
    return correlated("", list(values), human).estimate.value or 0.0


def scored(planted: Sequence[PlantedAd], seed: int, steps: int, rate: float, shuffled: bool) -> float:
    """Train a scorer on the first ads, with their scores or those of others; its rank correlation on the last ones."""
    ads = [made_ad(one.content) for one in planted]
    human = [ad.score for ad in ads[:TRAINED]]
    given = np.random.default_rng(seed).permutation(human).tolist() if shuffled else human
    rows = [Example(ad.prompt, f"{round(score):02d}") for ad, score in zip(ads, given, strict=False)]
    model = template_llama(rows, [ad.prompt for ad in ads], seed, context=192)
    teach(model, rows, seed, steps, batch_size=BATCH, learning_rate=rate, title="scorer")
    values = henry_scores(LocalResponder(model), [ad.prompt for ad in ads[TRAINED:]])
    return rho([value for value, _ in values], [ad.score for ad in ads[TRAINED:]])


def ridge_judge(texts: Sequence[str], scores: Sequence[float]) -> Callable[[Sequence[str]], list[float]]:
    """Fit a judge of texts: a ridge regression on TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    fitted = ridge().fit(words.fit_transform(texts).toarray(), scores)
    return lambda new: [float(value) for value in fitted.predict(words.transform(new).toarray())]


def written(
    planted: Sequence[PlantedAd], seed: int, steps: int, rate: float, selected: bool
) -> tuple[LanguageModel, Generated]:
    """Write ads after training on selected ads of the pool or, for control, with as many updates on the whole pool.

    The judge that selects was fitted on the scores of the other ads.
    """
    ads = [made_ad(one.content) for one in planted]
    half = ADS - POOL
    judged = ridge_judge([ad.text for ad in ads[:half]], [ad.score for ad in ads[:half]])
    every = [Draft(request_for(ad.brand), ad.text) for ad in ads]
    threshold = float(np.quantile(judged([draft.text for draft in every[half:]]), 2 / 3)) if selected else None

    def oracle(texts: Sequence[str]) -> list[float]:
        return [law_of(text) for text in texts]

    def train(model: LanguageModel, rows: Sequence[Example]) -> None:
        teach(model, rows, seed, steps, batch_size=BATCH, learning_rate=rate, title="generator")

    model = template_llama([Example(draft.request, draft.text) for draft in every], (), seed, context=192)
    requests = [request_for(brand) for brand in BRANDS] * 2
    out = seed_round(
        model, every[half:], judged, oracle, train, requests, threshold=threshold, both_directions=False,
        max_new_tokens=LENGTH, sampling=(1.0, seed),
    )  # fmt: skip
    return model, out


def seed_rows(planted: Sequence[PlantedAd], seed: int, steps: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """Score what both generators write, and how much likelier each finds memorable ads that it was not trained on."""
    texts = [made_ad(one.content).text for one in planted[: ADS - POOL]]
    drafts = [Draft(request_for(one.content.brand), text) for one, text in zip(planted, texts, strict=False)]
    law = [law_of(text) for text in texts]
    low, high = np.quantile(law, [1 / 3, 2 / 3])
    corpora = {
        "low": [draft for draft, value in zip(drafts, law, strict=True) if value < low],
        "high": [draft for draft, value in zip(drafts, law, strict=True) if value > high],
    }
    row: dict[str, Any] = {}
    for name in ("selected", "unfiltered"):
        model, out = written(planted, seed, steps, rates[name], name == "selected")
        logs = {part: float(np.log(perplexity(model, own[:60]))) for part, own in corpora.items()}
        row |= {f"written, {name}": float(np.mean(out.scores)), f"gap, {name}": logs["high"] - logs["low"]}
        row |= {f"{name}": len(out.selected)}
    return row


def real(found: Findings) -> None:
    """Report the baselines on LAMBDA's released test ads, where they are at hand."""
    try:
        folder = data_folder("ad_memorability", "get LAMBDA's released files")
    except InputError:
        found.measured["LAMBDA"] = "not at hand: set LETHEON_DATA"
        return
    ads = read_ads(str(folder))
    human = [ad.score for ad in ads]
    for name, values in Memorability(tuple(ads)).baselines().items():
        estimate = correlated(name, values, human).estimate
        found.measured[f"LAMBDA, rho {name}"] = estimate.value
        found.intervals[f"LAMBDA, rho {name}"] = [estimate.low, estimate.high]
