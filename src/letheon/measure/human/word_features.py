"""Word features: thirteen features rated by people (Glasgow and Lancaster norms), asked of a model word by word.

Paper:   Conde et al., Psycholinguistic Word Features: a new approach for the evaluation of LLMs' alignment with humans,
         arXiv 2506.22439.
Source:  the same authors' framework for the read-outs; the question's wording is ours [inferred from the norms'
         manuals].
Differs: all points of the scale are read from the whole vocabulary. The probe is an addition, not the paper's method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.statistics import Estimate
from letheon.measure.asking.parsing import unparsed_score
from letheon.measure.asking.responder import Responder, local_model
from letheon.measure.asking.templates import Template
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.human.agreement import binned, correlation_score, mean_of
from letheon.measure.human.norms import SENSE, check_words, read_number, read_table_of_words
from letheon.measure.human.ratings import Rating, rate
from letheon.measure.human.regression import layer_states, probe_layers
from letheon.measure.tables import drawn

PROMPT = Template(
    "word feature",
    "1",
    '{definition} Rate the English word "{word}" on a scale from {low} ({low_text}) to {high} ({high_text}). '
    "Answer with one number from {low} to {high} and nothing else.",
)
BINS = 20
FOLDS = 5


@dataclass(frozen=True)
class Feature:
    """A feature that people rated.

    Attributes:
        name: its name.
        norm: `Glasgow` or `Lancaster`.
        columns: spellings of the column of means; the first that a file has is read.
        low, high: ends of the scale.
        definition: a sentence that says what is rated.
        low_text, high_text: names of the ends.
    """

    name: str
    norm: str
    columns: tuple[str, ...]
    low: int
    high: int
    definition: str
    low_text: str
    high_text: str

    def prompt(self, word: str) -> str:
        """Return the question about a word."""
        return PROMPT.fill(word=word, **{name: getattr(self, name) for name in _SLOTS})


_SLOTS = ("definition", "low", "high", "low_text", "high_text")


def _glasgow(name: str, columns: tuple[str, ...], high: int, definition: str, low_text: str, high_text: str) -> Feature:
    return Feature(name, "Glasgow", columns, 1, high, definition, low_text, high_text)


def _lancaster(sense: str, how: str) -> Feature:
    definition = f"People experience the meaning of words with their senses; here it is about {how}."
    return Feature(
        sense.lower(),
        "Lancaster",
        (f"{sense}.mean",),
        0,
        5,
        definition,
        "not experienced with that sense at all",
        "experienced greatly",
    )


FEATURES = (
    _glasgow("arousal", ("Arousal.M",), 9, "Arousal is how exciting a word's meaning is.", "calming", "exciting"),
    _glasgow("valence", ("Valence.M",), 9, "Valence is how good a word's meaning is.", "bad", "good"),
    _glasgow(
        *("dominance", ("Dominance.M",), 9, "Dominance is how much control one feels over a word's meaning."),
        *("being controlled", "being in control"),
    ),
    _glasgow(
        *("concreteness", ("Concreteness.M",), 7, "Concrete words name what the senses can perceive."),
        *("very abstract", "very concrete"),
    ),
    _glasgow(
        *("imageability", ("Imageability.M", "Imag.M"), 7, "Imageability is how easily a word evokes a mental image."),
        *("very hard to imagine", "very easy to imagine"),
    ),
    _glasgow(
        *("familiarity", ("Familiarity.M", "Familiarty.M"), 7, "Familiarity is how well one knows a word from use."),
        *("very unfamiliar", "very familiar"),
    ),
    _glasgow(
        *("gender", ("Gender.M",), 7, "Gender association is how feminine or masculine a word's meaning is."),
        *("very feminine", "very masculine"),
    ),
    _lancaster("Auditory", "hearing"),
    _lancaster("Gustatory", "tasting"),
    _lancaster("Haptic", "feeling through touch"),
    _lancaster("Interoceptive", "sensations inside the body"),
    _lancaster("Olfactory", "smelling"),
    _lancaster("Visual", "seeing"),
)


@dataclass(frozen=True)
class WordFeatures:
    """Words with their human means per feature.

    Attributes:
        words: the words, each once.
        human: feature -> one mean (or None) per word.
        features: the features that the file has.
        probe: also predict each feature from the model's states, cross-validated over words.
    """

    words: tuple[str, ...]
    human: Mapping[str, tuple[float | None, ...]]
    features: tuple[Feature, ...]
    probe: bool = False
    source: str = ""
    seed: int = 0

    name = "word_features"

    @property
    def columns(self) -> tuple[str, ...]:
        """Both read-outs' correlations of every feature, the means over norms, and what could not be read."""
        kinds = ("expected", "argmax", "probe") if self.probe else ("expected", "argmax")
        own = tuple(f"{feature.name}: rho {kind}" for feature in self.features for kind in kinds)
        means = tuple(f"{norm}: mean rho {kind}" for norm in self._norms() for kind in kinds)
        return (*own, *means, "mass", "unparsed")

    def _norms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(feature.norm for feature in self.features))

    def config(self) -> dict[str, Any]:
        """Return source, counts, features and prompt."""
        return {
            "source": self.source,
            "seed": self.seed,
            "counts": {"words": len(self.words)},
            "features": [feature.name for feature in self.features],
            "prompt": PROMPT.facts(),
            "probe": self.probe,
            "hash": canonical_hash([self.words, self.human, self.features]),
        }

    def evaluate(self, model: Responder, against: Against = NOTHING) -> Scores:
        """Rate every word on every feature and correlate with people."""
        scores: dict[str, Score] = {}
        records: list[dict[str, Any]] = []
        masses: dict[str, float] = {}
        for feature in self.features:
            asked = [i for i, value in enumerate(self.human[feature.name]) if value is not None]
            ratings = rate(
                model, [[feature.prompt(self.words[i])] for i in asked], range(feature.low, feature.high + 1)
            )
            human = [self.human[feature.name][i] for i in asked]
            found = self._agreement(feature, ratings, human)
            if self.probe:
                found["rho probe"] = self._probe_score(model, feature, asked, human)
            scores |= {f"{feature.name}: {name}": score for name, score in found.items()}
            for i, rating, value in zip(asked, ratings, human, strict=True):
                record = _record(feature, self.words[i], rating, value)
                records.append(record)
                masses[record["id"]] = rating.mass
        means = self._means(scores)
        shown = [Score(name, s.estimate, s.better, s.items, s.why) for name, s in (scores | means).items()]
        further = [mean_score("mass", masses, "higher"), unparsed_score(records)]
        return Scores((*shown, *further), records=tuple(records))

    def _agreement(self, feature: Feature, ratings: Sequence[Rating], human: Sequence[Any]) -> dict[str, Score]:
        expected, argmax = [one.expected for one in ratings], [one.argmax for one in ratings]
        bins = binned(expected, human, feature.low, feature.high, BINS)
        n = len(bins.counts)
        return {
            "rho expected": correlation_score("", expected, human),
            "rho argmax": correlation_score("", argmax, human),
            "r expected": correlation_score("", expected, human, ranks=False),
            "r argmax": correlation_score("", argmax, human, ranks=False),
            f"rho of {n} bins": Score("", Estimate(bins.correlation, None, None, n), "higher", why="constant"),
        }

    def _probe_score(self, model: Responder, feature: Feature, asked: Sequence[int], human: Sequence[Any]) -> Score:
        """Predict every word from a probe that was fitted on the other folds' words."""
        local = local_model(model, "a probe")
        states = layer_states(local, [feature.prompt(self.words[i]) for i in asked])
        order = drawn(range(len(asked)), 0, self.seed, "folds")
        predicted: list[float | None] = [None] * len(asked)
        for fold in range(FOLDS):
            test = [i for place, i in enumerate(order) if place % FOLDS == fold]
            train = [i for place, i in enumerate(order) if place % FOLDS != fold]
            for i, value in zip(test, probe_layers(states, human, train, test).predicted, strict=True):
                predicted[i] = float(value)
        return correlation_score("", predicted, human)

    def _means(self, scores: Mapping[str, Score]) -> dict[str, Score]:
        kinds = ("expected", "argmax", "probe") if self.probe else ("expected", "argmax")
        found = {}
        for norm in self._norms():
            for kind in kinds:
                own = [feature.name for feature in self.features if feature.norm == norm]
                parts = {name: scores[f"{name}: rho {kind}"] for name in own}
                found[f"{norm}: mean rho {kind}"] = mean_of("", parts, self.seed)
        return found


def _record(feature: Feature, word: str, rating: Rating, human: float | None) -> dict[str, Any]:
    return {
        "id": f"{feature.name}/{word}",
        "part": feature.name,
        "prompt": feature.prompt(word),
        "answer": "" if rating.argmax is None else f"{rating.argmax:g}",
        "parsed": rating.argmax,
        "human": human,
        "expected": rating.expected,
        "mass": rating.mass,
        "entropy": rating.entropy,
    }


def read_word_features(
    data: str = "", *, limit: int = 0, seed: int = 0, features: str = "", senses: bool = False, probe: bool = False
) -> WordFeatures:
    """Read the Glasgow or the Lancaster norms.

    Args:
        data: the authors' table (.csv, .xlsx, ...).
        limit: number of words, drawn under `seed`; 0 takes all.
        features: names separated by commas; all that the file has by default.
        senses: also ask about words whose entry names a sense in brackets, such as `address (postal)`.
        probe: also predict the features from the model's states.

    Raises:
        InputError: no data, no known column, duplicated words, a mean outside its scale.
    """
    if not data:
        raise InputError("word_features needs a table of norms", "give --data glasgow_norms.csv")
    rows = read_table_of_words(data)
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    word = next((name for name in names if name.lower() in ("word", "words")), "")
    known = {feature.name: feature for feature in FEATURES if any(name in names for name in feature.columns)}
    if not word or not known:
        raise InputError(
            f"{data} has no column of words or no known feature", "columns are those of the Glasgow or Lancaster norms"
        )
    wanted = [name.strip() for name in features.split(",") if name.strip()] or list(known)
    for name in wanted:
        if name not in known:
            raise InputError(f"{data} has no feature {name!r}", f"it has: {', '.join(known)}")
    chosen = tuple(known[name] for name in wanted)
    texts = [str(row.get(word) or "").strip() for row in rows]
    check_words(texts, data)
    upper = all(text == text.upper() for text in texts)  # the Lancaster norms' spelling
    places = [i for i, text in enumerate(texts) if senses or not SENSE.match(text)]
    places = drawn(places, limit, seed, "words")
    human = {feature.name: tuple(_mean(feature, rows[i], texts[i], data) for i in places) for feature in chosen}
    words = tuple(texts[i].lower() if upper else texts[i] for i in places)
    return WordFeatures(words, human, chosen, probe, data, seed)


def _mean(feature: Feature, row: Mapping[str, Any], word: str, data: str) -> float | None:
    column = next((name for name in feature.columns if name in row), "")
    value = read_number(row.get(column), f"{data}, {column} of {word!r}")
    if value is not None and not feature.low <= value <= feature.high:
        raise InputError(
            f"{data}: {word!r} has {column} {value:g}, outside the scale {feature.low} to {feature.high}",
            "mend the cell",
        )
    return value
