"""Norming: from a table of words and a few human ratings to a validated norm set by a model.

Paper:   Conde et al., Adding LLMs to the psycholinguistic norming toolbox, arXiv 2509.14405.
Source:  WordsGPT/psycholinguistics_framework (Apache-2.0) for read-outs, splits and fine-tuning.
Differs: every point of the scale is read; probes and baselines are additions; intervals are given. Which disclosures
         the paper recommends was not read in its body [inferred]; they are those of the repository's protocol.

The words with ratings are split at random: the model is fine-tuned or probed on the training words, and every score is
of the test words. Words without a rating are only counted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.rows.sampling import stream_seed
from letheon.core.statistics import Estimate
from letheon.measure.asking.parsing import number_in, unparsed_score
from letheon.measure.asking.responder import Responder, local_model
from letheon.measure.asking.templates import Template
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.human.agreement import Values, correlation_score, error_score, worst
from letheon.measure.human.norms import Norms, read_norms
from letheon.measure.human.ratings import LEAST_MASS, Rating, rate
from letheon.measure.human.regression import fit_and_predict, layer_states, mean_embeddings, probe_layers
from letheon.measure.human.tuning import Tuning, tuned
from letheon.measure.tables import drawn

PROMPT = Template(
    "word rating",
    "1",
    "How {high_word} is a word? People were asked to rate words from {low} ({low_text}) to {high} ({high_text}). "
    'Rate the English word "{word}" as a native speaker would. Answer with one number from {low} to {high} and nothing '
    "else.",
)
LONGEST_ANSWER = 8  # tokens: a decimal on any scale


@dataclass(frozen=True)
class Asking:
    """The question about each word.

    Attributes:
        template: the prompt with the slot `{word}`.
        low, high: ends of the scale.
        fields: further slots of the template.
    """

    template: Template
    low: int
    high: int
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def points(self) -> tuple[int, ...]:
        """The scale's points."""
        return tuple(range(self.low, self.high + 1))

    def prompt(self, word: str) -> str:
        """Return the prompt of a word; `{Word}` is the reference repository's slot."""
        return self.template.fill(word=word, Word=word, low=self.low, high=self.high, **self.fields)


@dataclass(frozen=True)
class Norming:
    """A norming study: human norms, a question, a split, and what is fitted on the training words.

    Attributes:
        norms: words and ratings.
        split: places of the training and of the test words.
        asking: the question.
        second: column with a second human norm, for the human ceiling; empty if there is none.
        frequency: column with word frequencies, for the baseline; empty if there is none.
        probe: also fit ridge regressions on the model's states and input embeddings.
        tuning: also fine-tune a LoRA adapter; None does not.
        adapter: folder to save the adapter in.
    """

    norms: Norms
    split: tuple[tuple[int, ...], tuple[int, ...]]
    asking: Asking
    second: str = ""
    frequency: str = ""
    probe: bool = False
    tuning: Tuning | None = None
    adapter: str = ""
    source: str = ""
    seed: int = 0

    name = "norming"
    columns = (
        *("rho expected", "rho argmax", "r expected", "MAE expected", "rho human", "rho length", "rho frequency"),
        *("rho embeddings", "rho probe", "rho tuned", "MAE tuned", "mass", "unparsed"),
    )

    def config(self) -> dict[str, Any]:
        """Return source, counts, split, prompt and everything that is fitted."""
        train, test = self.split
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {"words": len(self.norms.words), "train": len(train), "test": len(test)},
            "without a rating": self.norms.missing,
            "scale": [self.asking.low, self.asking.high],
            "prompt": self.asking.template.facts(),
            "fields": self.asking.fields,
            "second norm": self.second,
            "frequency": self.frequency,
            "probe": self.probe,
            "fine-tuning": self.tuning,
            "hash": canonical_hash([self.norms, self.split]),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Rate the test words and compare the ratings with people's, with baselines, and with what training adds."""
        test = self.norms.take(self.split[1])
        ratings = rate(model, [[self.asking.prompt(word)] for word in test.words], self.asking.points)
        expected, argmax = [one.expected for one in ratings], [one.argmax for one in ratings]
        scores = [
            correlation_score("rho expected", expected, test.ratings),
            correlation_score("rho argmax", argmax, test.ratings),
            correlation_score("r expected", expected, test.ratings, ranks=False),
            error_score("MAE expected", test.words, expected, test.ratings, self.seed),
            mean_score("mass", {w: one.mass for w, one in zip(test.words, ratings, strict=True)}, "higher"),
            *self._baselines(test),
        ]
        columns: dict[str, Values] = {"expected": expected, "argmax": argmax}
        if self.probe:
            scores += self._probed(model, columns)
        if self.tuning is not None:
            scores += self._tuned(model, test, self.tuning, columns)
        records = self._records(test, ratings, columns)
        scores.append(unparsed_score(records))
        return Scores(tuple(scores), records=tuple(records), notes=tuple(self._notes(test, ratings, columns)))

    def _baselines(self, test: Norms) -> list[Score]:
        lengths = [-float(len(word)) for word in test.words]  # short words are the familiar ones
        scores = [correlation_score("rho length", lengths, test.ratings)]
        for name, column in (("rho human", self.second), ("rho frequency", self.frequency)):
            if column:
                scores.append(correlation_score(name, test.columns[column], test.ratings))
        return scores

    def _probed(self, responder: Responder, columns: dict[str, Values]) -> list[Score]:
        model, (train, test) = local_model(responder, "a probe"), self.split
        humans = self.norms.take(test).ratings
        embedded = fit_and_predict(mean_embeddings(model, self.norms.words), self.norms.ratings, train, test)
        states = layer_states(model, [self.asking.prompt(word) for word in self.norms.words])
        probed = probe_layers(states, self.norms.ratings, train, test)
        columns["embeddings"], columns["probe"] = embedded.tolist(), probed.predicted.tolist()
        layer = Score("probe layer", Estimate(float(probed.layer), None, None, len(train)), "zero")
        scores = [correlation_score(f"rho {name}", columns[name], humans) for name in ("embeddings", "probe")]
        return [*scores, error_score("MAE probe", self.norms.take(test).words, columns["probe"], humans), layer]

    def _tuned(self, responder: Responder, test: Norms, tuning: Tuning, columns: dict[str, Values]) -> list[Score]:
        model, train = local_model(responder, "fine-tuning"), self.norms.take(self.split[0])
        prompts = [self.asking.prompt(word) for word in train.words]
        place = Path(self.adapter) if self.adapter else None
        with tuned(model, prompts, train.ratings, tuning, seed=self.seed, adapter=place):
            said = responder.answers([[self.asking.prompt(word)] for word in test.words], LONGEST_ANSWER)
        values = [number_in(text, self.asking.low, self.asking.high) for text in said]
        columns["tuned"] = values
        failed = {word: float(value is None) for word, value in zip(test.words, values, strict=True)}
        return [
            correlation_score("rho tuned", values, test.ratings),
            correlation_score("r tuned", values, test.ratings, ranks=False),
            error_score("MAE tuned", test.words, values, test.ratings, self.seed),
            mean_score("unparsed tuned", failed, "lower", share=True),
        ]

    def _records(self, test: Norms, ratings: Sequence[Rating], columns: dict[str, Values]) -> list[dict[str, Any]]:
        return [
            {
                "id": word,
                "prompt": self.asking.prompt(word),
                "answer": "" if rating.argmax is None else f"{rating.argmax:g}",
                "parsed": rating.argmax,
                "human": test.ratings[i],
                "mass": rating.mass,
                "entropy": rating.entropy,
                **{name: values[i] for name, values in columns.items()},
            }
            for i, (word, rating) in enumerate(zip(test.words, ratings, strict=True))
        ]

    def _notes(self, test: Norms, ratings: Sequence[Rating], columns: dict[str, Values]) -> list[str]:
        weak = sum(one.mass < LEAST_MASS for one in ratings)
        notes = (
            [f"{weak} of {len(ratings)} words: the scale's points hold under half of the probability"] if weak else []
        )
        if self.norms.missing:
            notes.append(f"{self.norms.missing} words have no human rating and were left out")
        if far := self.norms.outliers():
            notes.append(f"{len(far)} human ratings are outliers (robust z above 3.5): {', '.join(far[:10])}")
        best = next(name for name in ("tuned", "probe", "expected") if name in columns)
        notes.append(f"largest errors ({best}): {', '.join(worst(test.words, columns[best], test.ratings))}")
        notes.append(disclosure(self))
        return notes


def disclosure(study: Norming) -> str:
    """Say in a sentence or two what must be published with a norm set made by a model [inferred]."""
    train, test = map(len, study.split)
    fitted = [name for name, on in (("probed", study.probe), ("fine-tuned", study.tuning is not None)) if on]
    how = f"{' and '.join(fitted)} on {train} rated words" if fitted else "asked without any training"
    return (
        f"Disclose with these norms: the model and its version; prompt {study.asking.template.name} "
        f"{study.asking.template.version} (SHA-256 {study.asking.template.sha256[:12]}); one word per context; the "
        f"read-out (expected value over all points); that the model was {how}; that agreement is of {test} words on "
        "which nothing was fitted, beside the agreement between two human norms; words without an answer; and that "
        "published norms may have been in the model's training data."
    )


def split_words(words: int, test_share: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw the places of training and test words.

    Raises:
        InputError: a share outside 0 to 1, or fewer than four test words.
    """
    if not 0 < test_share <= 1:
        raise InputError(f"test_share={test_share}", "give a share above 0 and up to 1")
    order = random.Random(stream_seed(seed, "norming")).sample(range(words), words)
    count = round(words * test_share)
    if count < 4:
        raise InputError(f"{count} test words of {words}", "give more words, or a larger --set test_share")
    return tuple(sorted(order[count:])), tuple(sorted(order[:count]))


def read_template(path: str) -> Template:
    """Read a prompt from a text file with the slot `{word}` (or `{Word}`); no path gives the default prompt.

    Raises:
        InputError: the file cannot be read or has no such slot.
    """
    if not path:
        return PROMPT
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompt {path} could not be read: {error}", "give a UTF-8 text file") from None
    if "{word}" not in text and "{Word}" not in text:
        raise InputError(f"prompt {path} has no slot {{word}}", "write {word} where the word shall stand")
    return Template(Path(path).stem, "file", text)


def read_norming(
    data: str = "",
    *,
    limit: int = 0,
    seed: int = 0,
    rating: str = "rating",
    word: str = "",
    low: int = 1,
    high: int = 7,
    low_text: str = "not at all",
    high_text: str = "very much",
    feature: str = "familiar",
    prompt: str = "",
    second: str = "",
    frequency: str = "",
    test_share: float = 0.0,
    probe: bool = False,
    epochs: int = 0,
    adapter: str = "",
) -> Norming:
    """Read a table of words with human ratings.

    Args:
        data: .csv, .jsonl, .json, .parquet or .xlsx.
        limit: number of words, drawn under `seed`; 0 takes all.
        rating, word, second, frequency: columns: the human mean, the word, a second human norm, the word frequency.
        low, high, low_text, high_text, feature: the scale, and how the default prompt names it.
        prompt: a text file with the slot {word}, instead of the default prompt.
        test_share: share of the words that are tested; by default all, or half where something is fitted.
        probe: fit ridge regressions on states and embeddings.
        epochs: number of fine-tuning epochs; 0 trains nothing.
        adapter: folder to save the fine-tuned adapter in.

    Raises:
        InputError: no data, a missing column, duplicated words, ratings outside the scale.
    """
    if not data:
        raise InputError("norming needs a table of words and ratings", "give --data words.csv --set rating=COLUMN")
    if low >= high:
        raise InputError(f"a scale from {low} to {high}", "give low below high")
    further = [name for name in (second, frequency) if name]
    norms = read_norms(data, rating, low, high, word=word, further=further)
    norms = norms.take(drawn(range(len(norms.words)), limit, seed, "words"))
    fits = probe or epochs > 0
    share = test_share or (0.5 if fits else 1.0)
    template = read_template(prompt)
    fields = {"high_word": feature, "low_text": low_text, "high_text": high_text}
    return Norming(
        norms=norms,
        split=split_words(len(norms.words), share, seed),
        asking=Asking(template, low, high, fields),
        second=second,
        frequency=frequency,
        probe=probe,
        tuning=Tuning(epochs=epochs) if epochs else None,
        adapter=adapter,
        source=data,
        seed=seed,
    )


def shuffled(norms: Norms, seed: int) -> Norms:
    """Return the norms with the human ratings permuted over words: a control, under which agreement must vanish."""
    order = np.random.default_rng(seed).permutation(len(norms.words))
    return Norms(norms.words, tuple(norms.ratings[i] for i in order), norms.columns, norms.missing)
