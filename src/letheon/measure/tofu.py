"""TOFU: two hundred invented authors, some of them to forget.

Paper:   Maini et al., TOFU: A Task of Fictitious Unlearning for LLMs, arXiv 2401.06121; hub id `locuslab/TOFU` (MIT).
Source:  the evaluator of open-unlearning (arXiv 2506.12618, commit d3d7cf9) fixes the numbers: answers of at most 200
         tokens, ROUGE-L recall, truth ratios from geometric means of the false answers' probabilities (TOFU's own code
         takes arithmetic ones in the utility), Min-K% with k = 0.4 for PrivLeak.
Differs: extraction strength may be 0, and `peer=True` gives the field's form, never below 1/T. Whether an answer is
         gibberish is told by a judge's likelihood and by loops, not by a classifier.

Forget quality and PrivLeak compare with a model that was trained without the forget rows; PrivLeak without one takes
an AUROC of 0.5 for it, as the field does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from letheon.audit.measuring.evaluate import RowScores, evaluate
from letheon.audit.measuring.greedy_answers import MOST_NEW_TOKENS
from letheon.audit.measuring.membership import membership
from letheon.audit.measuring.metrics import (
    closer_to_1_better,
    forget_quality,
    model_utility,
    normalised_probability,
    true_better,
)
from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError, nearest
from letheon.core.model.models import LanguageModel
from letheon.core.progress import progress
from letheon.core.rows.examples import Example, parse_rows
from letheon.core.statistics import Estimate
from letheon.forget.request import Request
from letheon.measure.benchmark import NOTHING, Against, Better, Score, Scores
from letheon.measure.common_scores import (
    MIN_K_AUROC,
    gibberish_score,
    mean_score,
    membership_score,
    privleak_score,
    soundness,
)
from letheon.measure.tables import drawn, drawn_from, read_table

HUB = "locuslab/TOFU"
SPLITS = {
    "forget01": ("retain99", "holdout01"),
    "forget05": ("retain95", "holdout05"),
    "forget10": ("retain90", "holdout10"),
}
ROWS_OF_AN_AUTHOR = 20
# A subset keeps so many authors for each one to forget.
KEPT_AUTHORS = 3
# Tables of the rows that are evaluated, with `_perturbed` after the name; the forget rows' depends on the split.
TABLES = {"forget": "", "retain": "retain", "real authors": "real_authors", "world facts": "world_facts"}
# The sets of the utility: how they are called, and whether their probabilities are normalised over the options.
UTILITY = {"retain": False, "real authors": True, "world facts": True}
RESAMPLES = 2000
NO_REFERENCE = "it needs a model that was trained without the forget rows"


@dataclass(frozen=True)
class Tofu:
    """TOFU's rows, read and checked.

    Attributes:
        forget, retain: what a model is trained on, and asked to forget or keep.
        asked: rows that are evaluated, by their set: `forget` and the three of the utility.
        holdout: rows that no model saw, for membership; empty where the copy has none.
        source, split, rows, seed: as they were given to `read_tofu`.
        peer: metrics in the field's form where ours differs.
    """

    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    asked: Mapping[str, tuple[Example, ...]]
    holdout: tuple[Example, ...]
    source: str = HUB
    split: str = "forget05"
    rows: int = 0
    seed: int = 0
    peer: bool = False

    name = "tofu"
    columns = (
        *("forget quality", "model utility", "forget probability", "forget ROUGE-L", "forget truth ratio"),
        *("extraction strength", "exact memorisation", "PrivLeak", "min-k AUROC", "gibberish"),
    )
    plane = ("extraction strength", "model utility")
    trains = True

    def request(self, model: LanguageModel | None = None) -> Request:
        """Forget the split's authors, keep all others."""
        return Request(self.forget, self.retain, id=f"tofu {self.split}", reason="a benchmark of invented authors")

    def config(self) -> dict[str, Any]:
        """Return the settings that decide the numbers."""
        counts = {"forget": len(self.forget), "retain": len(self.retain), "holdout": len(self.holdout)}
        asked = {f"asked {name}": len(rows) for name, rows in self.asked.items()}
        return {
            **drawn_from(self),
            "peer": self.peer,
            "counts": {**counts, **asked},
            "answer tokens": MOST_NEW_TOKENS,
            "hash": canonical_hash(self),
        }

    def evaluate(self, model: LanguageModel, against: Against = NOTHING) -> Scores:
        """Every score of one model: likelihoods and answers on four sets, membership, soundness of the answers."""
        scored: dict[str, list[RowScores]] = {}
        with progress(f"measuring {model.name}", len(self.asked)) as advance:
            for done, name in enumerate(self.asked, start=1):
                scored[name] = self._rows(model, name, against)
                advance(done, name)
        answers = {row.example.id: row.answer or "" for rows in scored.values() for row in rows}
        scores = [
            *self._forget_scores(model, scored["forget"]),
            *self._soundness_scores(answers, against),
            *self._utility_scores(scored),
            *self._membership_scores(model),
        ]
        return self.relate(Scores(tuple(scores), answers), against)

    def relate(self, scores: Scores, against: Against) -> Scores:
        """Forget quality and PrivLeak against a reference, from the rows' values."""
        others = scores.without("forget quality", "PrivLeak")
        quality = self._forget_quality(scores, against.reference)
        return replace(scores, scores=(quality, *others, privleak_score(scores, against.reference)))

    # The parts

    def _rows(self, model: LanguageModel, name: str, against: Against) -> list[RowScores]:
        """Likelihoods and answers; what another model answered may well be what this one does, which saves decoding."""
        rows = self.asked[name]
        related = against.reference if name == "forget" else against.target
        known = related.answers if related is not None else {}
        drafts = [known.get(row.id) for row in rows]
        return evaluate(model, rows, drafts=drafts, max_new_tokens=MOST_NEW_TOKENS).rows

    def _forget_scores(self, model: LanguageModel, rows: Sequence[RowScores]) -> list[Score]:
        ratios = _values(rows, "truth_ratio")
        strength = _values(rows, "extraction_strength")
        if self.peer:
            encoder = model.encoder()
            tokens = {row.example.id: len(encoder.answer(row.example.answer, end=False)[0]) for row in rows}
            strength = {name: max(value, 1 / tokens[name]) for name, value in strength.items()}
        return [
            self._mean("forget probability", _values(rows, "probability"), "lower"),
            self._mean("forget ROUGE-L", _values(rows, "rouge_l_recall"), "lower"),
            self._ratio("forget truth ratio", ratios, closer_to_1_better),
            self._mean("extraction strength", strength, "lower"),
            self._mean("exact memorisation", _values(rows, "exact_memorization"), "lower"),
        ]

    def _soundness_scores(self, answers: Mapping[str, str], against: Against) -> list[Score]:
        prompts = {row.id: row.prompt for row in self.asked["forget"]}
        sound = soundness(prompts, answers, against)
        fluent = {name: value for name, value in sound.fluency.items() if value is not None}
        why = "no model was given to judge by"
        return [gibberish_score(sound), mean_score("fluency", fluent, "higher", seed=self.seed, why=why)]

    def _utility_scores(self, scored: Mapping[str, Sequence[RowScores]]) -> list[Score]:
        scores, sets = [], []
        for name, normalised in UTILITY.items():
            rows = scored[name]
            ratios = _values(rows, "truth_ratio")
            likely = {
                row.example.id: normalised_probability(row.probability, row.perturbed)
                if normalised
                else row.probability
                for row in rows
            }
            said = _values(rows, "rouge_l_recall")
            scores += [
                self._mean(f"{name} probability", likely, "higher"),
                self._mean(f"{name} ROUGE-L", said, "higher"),
                self._ratio(f"{name} truth ratio", ratios, true_better),
            ]
            better = [max(0.0, 1 - ratio) for ratio in ratios.values()]
            sets.append(np.array([list(likely.values()), list(said.values()), better]))
        parts = {score.name: score.estimate.value for score in scores}
        return [Score("model utility", utility_estimate(sets, self.seed), "higher", parts), *scores]

    def _membership_scores(self, model: LanguageModel) -> list[Score]:
        names = {"min_k": MIN_K_AUROC, "min_k_plus_plus": "min-k++ AUROC", "loss": "loss AUROC", "zlib": "zlib AUROC"}
        if not self.holdout:
            why = "the copy of the data has no hold-out rows"
            return [Score(label, Estimate(None, None, None, 0), "lower", why=why) for label in names.values()]
        tests = membership(model, self.asked["forget"], self.holdout, seed=self.seed)
        ids = [row.id for row in (*self.asked["forget"], *self.holdout)]
        return [membership_score(label, tests[name], ids) for name, label in names.items()]

    def _forget_quality(self, scores: Scores, reference: Scores | None) -> Score:
        ratios = scores["forget truth ratio"].values()
        if reference is None:
            return Score("forget quality", Estimate(None, None, None, len(ratios)), "higher", why=NO_REFERENCE)
        theirs = reference["forget truth ratio"].values()
        value = forget_quality(ratios, theirs)
        return Score("forget quality", Estimate(value, None, None, len(ratios)), "higher")

    def _mean(self, name: str, values: Mapping[str, float], better: Better) -> Score:
        return mean_score(name, values, better, seed=self.seed)

    def _ratio(self, name: str, ratios: Mapping[str, float], aggregate: Callable[[Sequence[float]], float]) -> Score:
        """A mean over what an aggregate makes of each row's ratio; the rows keep the ratio itself."""
        return replace(
            self._mean(name, {row: aggregate([ratio]) for row, ratio in ratios.items()}, "higher"), items=ratios
        )


def _values(rows: Sequence[RowScores], name: str) -> dict[str, float]:
    """A numeric attribute of the rows that have it, by their ids."""
    values = {row.example.id: getattr(row, name) for row in rows}
    return {row: value for row, value in values.items() if value is not None}


def utility_estimate(sets: Sequence[Float[np.ndarray, "3 _"]], seed: int = 0) -> Estimate:
    """Harmonic mean of the means of all parts; for its interval the rows of each set are drawn again.

    Args:
        sets: for each set the row values of its three parts.
    """
    value = model_utility([float(part.mean()) for one in sets for part in one])
    rng = np.random.default_rng(seed)
    draws = [one[:, rng.integers(one.shape[1], size=(RESAMPLES, one.shape[1]))].mean(-1) for one in sets]
    parts = np.concatenate(draws)  # [parts, resamples]
    with np.errstate(divide="ignore"):
        means = len(parts) / (1 / parts).sum(0)  # 1 / infinity where a part is 0
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(value, float(low), float(high), sum(one.shape[1] for one in sets))


# Reading ------------------------------------------------------------------------------------------------------------


def read_tofu(source: str | Path = HUB, *, split: str = "", rows: int = 0, seed: int = 0, peer: bool = False) -> Tofu:
    """Read TOFU.

    Args:
        source: a hub id, or the folder of a copy: `forget05.json`, `forget05_perturbed.json`, `retain95.json`, ...
        split: `forget01`, `forget05` (where it is empty) or `forget10`.
        rows: take a subset drawn under `seed`: so many forget rows in whole authors, three kept authors for each, and
            so many rows of each other set; 0 takes all.
        peer: metrics in the field's form where ours differs.

    Raises:
        InputError: no such split, a table is missing, or a row is not as it should be.
    """
    split = split or "forget05"
    if split not in SPLITS:
        raise InputError(f"TOFU has no split {split!r}", nearest(split, list(SPLITS)))
    kept, held = SPLITS[split]
    perturbed = {name: f"{table}_perturbed" for name, table in {**TABLES, "forget": split}.items()}
    tables = {name: _read(source, name) for name in (split, kept, *perturbed.values())}
    holdout = _read(source, held, optional=True)
    unseen = {row.prompt for row in holdout}
    asked = {name: tables[table] for name, table in perturbed.items()}
    whole = Tofu(
        forget=tables[split],
        retain=tuple(row for row in tables[kept] if row.prompt not in unseen),
        asked=asked,
        holdout=holdout,
        source=str(source),
        split=split,
        rows=rows,
        seed=seed,
        peer=peer,
    )
    return subset(whole) if rows else whole


def _read(source: str | Path, config: str, optional: bool = False) -> tuple[Example, ...]:
    where, rows = read_table(source, config, optional=optional)
    examples = parse_rows(rows, where, prefix=config)
    for example in examples if config.endswith("_perturbed") else []:
        if not example.perturbed_answers:
            raise InputError(f"{where}, {example.id}: no field 'perturbed_answer'", "give the false answers of the row")
    return tuple(examples)


def subset(tofu: Tofu) -> Tofu:
    """Some whole authors of the forget and retain rows, the evaluated rows about them, and some of the others."""
    number = math.ceil(tofu.rows / ROWS_OF_AN_AUTHOR)
    asked = {row.prompt for row in tofu.asked["retain"]}
    known = [author for author in _authors(tofu.retain) if any(row.prompt in asked for row in author)]
    forget = drawn(_authors(tofu.forget), number, tofu.seed, "forget")
    retain = drawn(known, KEPT_AUTHORS * number, tofu.seed, "retain")
    forget_rows, retain_rows = (tuple(row for author in authors for row in author) for authors in (forget, retain))
    about = {"forget": {row.prompt for row in forget_rows}, "retain": {row.prompt for row in retain_rows}}
    rows = {
        name: tuple(row for row in tofu.asked[name] if row.prompt in about[name])
        if name in about
        else tuple(drawn(tofu.asked[name], tofu.rows, tofu.seed, name))
        for name in tofu.asked
    }
    holdout = tuple(drawn(tofu.holdout, len(forget_rows), tofu.seed, "holdout"))
    return replace(tofu, forget=forget_rows, retain=retain_rows, asked=rows, holdout=holdout)


def _authors(rows: Sequence[Example]) -> list[tuple[Example, ...]]:
    """Rows of one author stand together, twenty of them."""
    return [tuple(rows[i : i + ROWS_OF_AN_AUTHOR]) for i in range(0, len(rows), ROWS_OF_AN_AUTHOR)]
