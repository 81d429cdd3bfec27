"""Large Pre-trained Language Models Contain Human-like Biases of What is Right and Wrong to Do.

arXiv 2103.11790, 2021-03; Nature Machine Intelligence 2022. Full scale in the paper: a sentence encoder and two studies
with people. Here: SmolLM2's states as encoder, and phrases that are plainly dos or don'ts instead of ratings. The layer
is chosen on some phrases, also for the baselines; the others are dealt out to the seeds, so that each is judged once.

The released scores can be checked too: three files of the paper's repository (`data/correlation/userstudy`) in a folder
`mort_nmi` of the data folder give Pearson's r of 0.815 (regional study) and 0.838 (global study).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel, load
from letheon.core.statistics import estimate_mean
from letheon.papers.common.data import data_folder
from letheon.papers.common.deeds import CHOOSING_DONTS, CHOOSING_DOS, JUDGED_DONTS, JUDGED_DOS
from letheon.papers.kit.findings import Columns, Findings
from letheon.papers.outcome import Scale
from letheon.probe.linear_probes import token_states
from letheon.report.figures import dots
from letheon.steer.methods.moral_direction import TEMPLATES, VERBS, MoralDirection, moral_direction

# The parts that decide, named before the first run.
PRIMARY = (
    "AUROC of dos against don'ts, moral direction minus random directions",
    "AUROC of dos against don'ts, moral direction minus number of tokens",
)
RANDOM = 200  # random directions per seed
GET = "get data/correlation/userstudy from github.com/ml-research/MoRT_NMI"
SCORES = "BERT_subspace_qa_regional_bias.csv"  # of 113 actions, which both studies have
STUDIES = {"regional": "userStudy_scores_regional.csv", "global": "userStudy_scores_globalAMT.csv"}


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare the moral direction's ranking with random directions, other components and the number of tokens."""
    found.baselines += ["random directions", "components 2 to 5", "number of tokens", "texts without templates"]
    model = load(scale.model, device=scale.device)
    choosing = phrase_states(model, CHOOSING_DOS, CHOOSING_DONTS, TEMPLATES)
    judged = phrase_states(model, JUDGED_DOS, JUDGED_DONTS, TEMPLATES)
    directions = [moral_direction(layer) for layer in embedded(model, VERBS, TEMPLATES)]
    parts = judged.dealt_out(len(scale.seeds))
    rows = [
        measured(directions, choosing, judged.select(part), seed) for seed, part in zip(scale.seeds, parts, strict=True)
    ]
    found.rows += rows
    judge(rows, found)
    found.measured |= released_correlations()
    arms = ("moral direction", "without templates", "random", "other components", "tokens", "class means")
    groups = {"AUROC": {arm: estimate_mean([row[arm] for row in rows]) for arm in arms}}
    found.figures["ranking"] = dots(groups, "AUROC", "AUROC of dos against don'ts on phrases not used for the layer")


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide on the AUROC against random directions and against length."""
    of, ours = Columns(rows), "moral direction"
    found.decide(PRIMARY[0], of.pairs(ours, "random"), above=0.0)
    found.decide(PRIMARY[1], of.pairs(ours, "tokens"), above=0.0)
    found.report("AUROC, templates minus plain texts", of.pairs(ours, "without templates"), above=0.0)
    components = of.pairs(ours, "other components")
    found.report("AUROC, component 1 minus the best of components 2 to 5", components, above=0.0)
    means = of.pairs(ours, "class means")
    found.report("AUROC, moral direction minus the dos' mean minus the don'ts'", means, above=0.0)
    found.report("explained variance of component 1", of("explained"))
    found.report("chosen layer", of("layer"))


@dataclass(frozen=True)
class Phrases:
    """Vectors of dos and don'ts.

    Attributes:
        labels: 1 for a do, 0 for a don't.
        templates, plain: mean over the question templates, and of the phrase alone; [layers, phrases, width].
        tokens: number of tokens of each phrase.
    """

    labels: Int[np.ndarray, " phrases"]
    templates: Float[np.ndarray, "layers phrases width"]
    plain: Float[np.ndarray, "layers phrases width"]
    tokens: Int[np.ndarray, " phrases"]

    def select(self, which: Int[np.ndarray, " some"]) -> Phrases:
        """Return some of the phrases."""
        return Phrases(self.labels[which], self.templates[:, which], self.plain[:, which], self.tokens[which])

    def dealt_out(self, count: int) -> list[Int[np.ndarray, " some"]]:
        """Deal the phrases out to parts without a common phrase, each with as many dos as any other, and don'ts."""
        draw = np.random.default_rng(0)
        kinds = [draw.permutation(np.flatnonzero(self.labels == kind)) for kind in (1, 0)]
        each = min(map(len, kinds)) // count
        return [np.r_[tuple(kind[i * each : (i + 1) * each] for kind in kinds)] for i in range(count)]


def embedded(
    model: LanguageModel, phrases: Sequence[str], templates: Sequence[str] = ("{}",)
) -> Float[np.ndarray, "layers phrases width"]:
    """Compute each phrase's vector after every layer: the mean over templates of the states' mean over tokens."""
    texts = [template.format(phrase) for phrase in phrases for template in templates]
    ids = [model.encoder().answer(text, end=False)[0] for text in texts]
    states = token_states(model, ids, position="mean", batch_size=64).double().numpy()
    return np.asarray(states.reshape(len(states), len(phrases), len(templates), -1).mean(2))


def phrase_states(model: LanguageModel, dos: Sequence[str], donts: Sequence[str], templates: Sequence[str]) -> Phrases:
    """Compute the vectors of phrases and their lengths."""
    phrases = (*dos, *donts)
    lengths = [len(model.encoder().answer(phrase, end=False)[0]) for phrase in phrases]
    labels = np.r_[np.ones(len(dos), int), np.zeros(len(donts), int)]
    return Phrases(labels, embedded(model, phrases, templates), embedded(model, phrases), np.array(lengths))


def measured(directions: Sequence[MoralDirection], choosing: Phrases, judged: Phrases, seed: int) -> dict[str, Any]:
    """Choose a layer (for baselines also a sign or a component) on some phrases, and rank others."""
    count = len(directions)

    def scores(phrases: Phrases, layer: int, component: int = 0, source: str = "templates") -> np.ndarray:
        return directions[layer].score_vectors(getattr(phrases, source)[layer], component)

    def ranked(phrases: Phrases, *how: Any) -> float:
        return auroc(scores(phrases, *how), phrases.labels)

    layer = max(range(count), key=lambda one: ranked(choosing, one))
    plain = max(range(count), key=lambda one: ranked(choosing, one, 0, "plain"))
    others = [(one, component) for one in range(count) for component in range(1, len(directions[0].components))]
    other = max(others, key=lambda how: abs(ranked(choosing, *how) - 0.5))
    draw = np.random.default_rng(seed)
    width = choosing.templates.shape[-1]
    return {
        "seed": seed,
        "layer": layer,
        "moral direction": ranked(judged, layer),
        "without templates": ranked(judged, plain, 0, "plain"),
        "other components": oriented(ranked(choosing, *other), ranked(judged, *other)),
        "random": float(np.mean([along(one, choosing, judged) for one in draw.normal(size=(RANDOM, width))])),
        "class means": by_class_means(choosing, judged, layer),
        "tokens": oriented(auroc(choosing.tokens, choosing.labels), auroc(judged.tokens, judged.labels)),
        "explained": float(directions[layer].explained[0]),
    }


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Compute the share of pairs (a do, a don't) in which the do scores higher; equal scores count half."""
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None]
    return float((gaps > 0).mean() + (gaps == 0).mean() / 2)


def oriented(choosing: float, judged: float) -> float:
    """Return the judged AUROC under the sign that is better on the phrases to choose on."""
    return judged if choosing >= 0.5 else 1 - judged


def along(direction: np.ndarray, choosing: Phrases, judged: Phrases) -> float:
    """Return the AUROC of a direction at the layer and under the sign that are best on the phrases to choose on."""
    found = [auroc(layer @ direction, choosing.labels) for layer in choosing.templates]
    best = max(range(len(found)), key=lambda one: abs(found[one] - 0.5))
    return oriented(found[best], auroc(judged.templates[best] @ direction, judged.labels))


def by_class_means(choosing: Phrases, judged: Phrases, layer: int) -> float:
    """Return the AUROC of the direction from the don'ts' mean to the dos' that are chosen on: it has seen labels."""
    states = choosing.templates[layer]
    direction = states[choosing.labels == 1].mean(0) - states[choosing.labels == 0].mean(0)
    return auroc(judged.templates[layer] @ direction, judged.labels)


def released_correlations() -> dict[str, Any]:
    """Return Pearson's r of the released scores with both studies; nothing where the files are not there."""
    try:
        folder = data_folder("mort_nmi", GET)
    except InputError:
        return {}
    scores = read_scores(folder / SCORES)
    return {f"released r, {name}": correlation(scores, read_scores(folder / file)) for name, file in STUDIES.items()}


def read_scores(path: Path) -> dict[str, float]:
    """Read pairs of an action and a number, in either order, with or without a head."""
    found: dict[str, float] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for one, other, *_ in csv.reader(file):
            for name, value in ((one, other), (other, one)):
                try:
                    found[name.strip().lower()] = float(value)
                except ValueError:
                    continue
    return found


def correlation(scores: dict[str, float], study: dict[str, float]) -> float:
    """Compute Pearson's r over the actions of both, the study's shares rescaled to [-1, 1]."""
    shared = sorted(set(scores) & set(study))
    return float(np.corrcoef([scores[one] for one in shared], [2 * study[one] - 1 for one in shared])[0, 1])
