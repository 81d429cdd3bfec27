"""`letheon measure memorability`: a model's memorability scores of verbalised content against people's.

Paper:   Si et al., Long-Term Ad Memorability (LAMBDA, Henry, SEED), arXiv 2309.00378.
Differs: no vision tokens: content enters as words, the paper's language-only arm. A LoRA adapter is trained where the
         paper tunes a 13B model; the loss covers the answer's tokens only, as there.

Every fitted score is of ads whose brand the fit has not seen; baselines are also given under a random split, which
shows how much a known brand is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.core.statistics import Estimate, bootstrap_interval
from letheon.measure.asking.parsing import unparsed_score
from letheon.measure.asking.responder import Responder, local_model
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.human.agreement import Values, correlation_score, error_score
from letheon.measure.human.memorability.data import PROMPT, Ad, features, read_ads
from letheon.measure.human.memorability.scoring import (
    Split,
    across,
    brand_means,
    embedded,
    folds,
    henry_scores,
    tfidf,
)
from letheon.measure.human.ratings import LEAST_MASS
from letheon.measure.human.tuning import Tuning, tuned_on
from letheon.measure.tables import drawn
from letheon.recall.embedders import load_embedder


@dataclass(frozen=True)
class Memorability:
    """Ads with scores, and what is fitted on them.

    Attributes:
        embedder: of the embedding baseline; empty leaves it out.
        tuning: also fine-tune a LoRA adapter per fold; None does not.
    """

    ads: tuple[Ad, ...]
    embedder: str = "minilm"
    tuning: Tuning | None = None
    source: str = ""
    seed: int = 0

    name = "memorability"
    columns = (
        *("rho model", "MAE model", "rho tuned", "MAE tuned", "rho tfidf", "rho embedding", "rho features"),
        *("rho brand, random split", "rho tfidf, random split", "MAE mean", "mass", "unparsed"),
    )

    def config(self) -> dict[str, Any]:
        """Return source, counts, prompt and everything that is fitted."""
        scores = [ad.score for ad in self.ads]
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {"ads": len(scores), "brands": len({ad.brand for ad in self.ads}), "scores": len(set(scores))},
            "prompt": PROMPT.facts(),
            "embedder": self.embedder,
            "fine-tuning": self.tuning,
            "hash": canonical_hash([(ad.id, ad.prompt, ad.score) for ad in self.ads]),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Score every ad by the model and by the baselines, and compare with people."""
        ids, human = [ad.id for ad in self.ads], [ad.score for ad in self.ads]
        asked = henry_scores(model, [ad.prompt for ad in self.ads])
        columns: dict[str, Values] = {"model": [value for value, _ in asked]}
        if self.tuning is not None:
            columns["tuned"] = self._tuned(model, self.tuning)
        columns |= self.baselines()
        scores = [correlated(f"rho {name}", values, human, self.seed) for name, values in columns.items()]
        scores += [
            error_score(f"MAE {name}", ids, values, human, self.seed)
            for name, values in columns.items()
            if name in ("model", "tuned", "mean")
        ]
        scores.append(mean_score("mass", {i: mass for i, (_, mass) in zip(ids, asked, strict=True)}, "higher"))
        records = tuple(self._record(ad, place, asked, columns) for place, ad in enumerate(self.ads))
        scores.append(unparsed_score(records))
        return Scores(tuple(scores), records=records, notes=tuple(self._notes(asked)))

    def baselines(self) -> dict[str, Values]:
        """Predict each ad from ads of other brands: mean, TF-IDF, embeddings, features; and under a random split."""
        texts, human = [ad.text for ad in self.ads], [ad.score for ad in self.ads]
        brands = [ad.brand for ad in self.ads]
        spaces = {"tfidf": tfidf(texts), "features": features(texts)}
        if self.embedder:
            spaces["embedding"] = embedded(load_embedder(self.embedder), texts)
        found: dict[str, Values] = {}
        splits: tuple[tuple[Split, str], ...] = (("brand", ""), ("random", ", random split"))
        for split, suffix in splits:
            parts = folds(brands, split, self.seed)
            found |= {f"{name}{suffix}": across(space, human, parts) for name, space in spaces.items()}
            found[f"brand{suffix}" if suffix else "mean"] = brand_means(brands, human, parts)
        return found

    def _tuned(self, responder: Responder, tuning: Tuning) -> list[float | None]:
        model, values = local_model(responder, "fine-tuning"), [None] * len(self.ads)
        predicted: list[float | None] = list(values)
        for train, test in folds([ad.brand for ad in self.ads], "brand", self.seed):
            rows = [Example(self.ads[i].prompt, f"{min(99, round(self.ads[i].score)):02d}") for i in train]
            with tuned_on(model, rows, tuning, seed=self.seed, title="learning the scores"):
                asked = henry_scores(responder, [self.ads[i].prompt for i in test])
            for place, (value, _) in zip(test, asked, strict=True):
                predicted[place] = value
        return predicted

    def _record(
        self, ad: Ad, place: int, asked: Sequence[tuple[float | None, float]], columns: dict[str, Values]
    ) -> dict[str, Any]:
        value, mass = asked[place]
        return {
            "id": ad.id,
            "prompt": ad.prompt,
            "answer": "" if value is None else f"{value:.1f}",
            "parsed": None if value is None else round(value),
            "human": ad.score,
            "brand": ad.brand,
            "mass": mass,
            **{name: values[place] for name, values in columns.items()},
        }

    def _notes(self, asked: Sequence[tuple[float | None, float]]) -> list[str]:
        weak = sum(mass < LEAST_MASS for _, mass in asked)
        notes = [f"{weak} of {len(asked)} ads: numbers hold under half of the probability"] if weak else []
        if len({ad.brand for ad in self.ads}) < 5:
            notes.append("fewer than five brands: folds by brand are few, and fitted scores are uncertain")
        top = max([ad.score for ad in self.ads].count(value) for value in {ad.score for ad in self.ads})
        if top > len(self.ads) / 10:
            notes.append(f"{top} of {len(self.ads)} ads share one score: ranks are tied")
        return notes


def correlated(name: str, values: Values, human: Sequence[float], seed: int = 0) -> Score:
    """Return Spearman's correlation with average ranks for ties, with a bootstrap interval over ads."""
    score = correlation_score(name, values, human)
    if score.estimate.value is None:
        return score
    pairs = np.array([(a, b) for a, b in zip(values, human, strict=True) if a is not None and b is not None])

    def rho(rows: np.ndarray, axis: int = -1) -> np.ndarray:
        from scipy.stats import rankdata

        first, second = (rankdata(pairs[rows.astype(int), side], axis=-1) for side in (0, 1))
        first, second = (part - part.mean(-1, keepdims=True) for part in (first, second))
        spread = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
        return np.asarray((first * second).sum(-1) / np.where(spread == 0, 1.0, spread))

    interval = bootstrap_interval(list(range(len(pairs))), rho, seed=seed)
    low, high = interval or (None, None)
    return replace(score, estimate=Estimate(score.estimate.value, low, high, len(pairs)))


def shuffled(ads: Sequence[Ad], seed: int) -> list[Ad]:
    """Return the ads with their scores permuted: a control, under which every correlation must vanish."""
    order = np.random.default_rng(seed).permutation(len(ads))
    return [replace(ad, score=ads[i].score) for ad, i in zip(ads, order, strict=True)]


def read_memorability(
    data: str = "",
    *,
    limit: int = 0,
    seed: int = 0,
    scenes: int = 0,
    embedder: str = "minilm",
    epochs: int = 0,
) -> Memorability:
    """Read ads with memorability scores.

    Args:
        data: content records (.jsonl, .json) with `memorability`, or the folder of LAMBDA's released files.
        limit: number of ads, drawn under `seed`; 0 takes all.
        scenes: scenes per ad that enter the prompt; 0 takes all.
        embedder: of the baseline: minilm, words, a folder; `none` leaves it out.
        epochs: number of fine-tuning epochs per fold; 0 trains nothing.

    Raises:
        InputError: no data, or ads without scores.
    """
    if not data:
        raise InputError("memorability needs ads with scores", "give --data ads.jsonl, or the folder of LAMBDA's files")
    ads = drawn(read_ads(data, scenes), limit, seed, "ads")
    return Memorability(
        ads=tuple(ads),
        embedder="" if embedder == "none" else embedder,
        tuning=Tuning(epochs=epochs) if epochs else None,
        source=data,
        seed=seed,
    )
