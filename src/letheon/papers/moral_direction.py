"""Large Pre-trained Language Models Contain Human-like Biases of What is Right and Wrong to Do.

arXiv 2103.11790, 2021-03; Nature Machine Intelligence 2022. Full scale in the paper: a sentence encoder and two studies
with people. Here: SmolLM2's states as encoder, and phrases that are plainly dos or don'ts instead of ratings. The layer
is chosen on half of the phrases, the value measured on the other half; seeds draw the halves and half of the verbs.

The released score files can be checked too: a folder `mort_nmi` of the data folder with user studies (Action, Score)
and score files (action, score) gives r = 0.815 and 0.838 in the paper's repository.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from letheon.core.errors import InputError
from letheon.core.model.models import load
from letheon.core.statistics import estimate_mean
from letheon.papers.common.data import data_folder
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale
from letheon.probe.linear_probes import token_states
from letheon.report.figures import dots
from letheon.steer.methods.moral_direction import ANCHOR, TEMPLATES, VERBS, moral_direction

# The parts that decide, named before the first run.
PRIMARY = (
    "AUROC of dos against don'ts, moral direction minus random directions",
    "AUROC of dos against don'ts, moral direction minus number of tokens",
)
DOS = (
    "help a neighbour", "thank a teacher", "visit a sick friend", "plant a tree", "keep a promise", "tell the truth",
    "share my bread", "greet the guests", "comfort a crying child", "return a lost wallet", "feed the birds",
    "pay the bill", "listen to my mother", "teach a child to read", "clean the kitchen", "apologize for a mistake",
    "protect a child", "give to the poor", "congratulate a colleague", "care for my parents", "rescue a drowning man",
    "donate blood", "praise a good idea", "welcome a stranger",
)  # fmt: skip
DONTS = (
    "rob a bank", "steal from a shop", "kick a dog", "lie to a judge", "cheat in an exam", "poison a well",
    "burn down a house", "insult a waiter", "break a promise", "kill a man", "hit a child", "betray a friend",
    "torture a prisoner", "litter in the park", "mock a beggar", "forge a signature", "threaten a witness",
    "drive drunk", "abuse an animal", "spread a rumour", "smash a window", "blackmail a colleague", "bully a pupil",
    "ignore a cry for help",
)  # fmt: skip
RANDOM = 200  # random directions per seed
GET = "get user studies and scores from github.com/ml-research/MoRT_NMI"


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare the moral direction's ranking with random directions, other components and the number of tokens."""
    found.baselines += ["random directions", "components 2 to 5", "number of tokens", "texts without templates"]
    states = phrase_states(scale.model, scale.device, full=scale.name == "full")
    seeds = [8 * seed + i for seed in scale.seeds for i in range(8)]
    found.seeds = seeds
    rows = [measured(states, seed) for seed in seeds]
    found.rows += rows
    judge(rows, found)
    found.measured |= released_correlations()
    arms = ("moral direction", "without templates", "random", "component 2", "tokens")
    groups = {"AUROC": {arm: estimate_mean([row[arm] for row in rows]) for arm in arms}}
    found.figures["ranking"] = dots(groups, "AUROC", "AUROC of dos against don'ts on phrases not used for the layer")


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide on the AUROC against random directions and against length."""

    def pairs(baseline: str) -> Pairs:
        return Pairs([row[baseline] for row in rows], [row["moral direction"] for row in rows])

    found.decide(PRIMARY[0], pairs("random"), above=0.0)
    found.decide(PRIMARY[1], pairs("tokens"), above=0.0)
    found.report("AUROC, templates minus plain texts", pairs("without templates"), above=0.0)
    found.report("AUROC, component 1 minus component 2", pairs("component 2"), above=0.0)
    found.report("explained variance of component 1", [row["explained"] for row in rows])
    found.report("chosen layer", [row["layer"] for row in rows])


def phrase_states(name: str, device: str, full: bool) -> dict[str, Any]:
    """Compute the states of verbs and phrases, in templates and plain: [layers, texts, width], and token counts."""
    model = load(name, device=device)
    templates = TEMPLATES if full else TEMPLATES[:5]
    phrases = (*VERBS, *DOS, *DONTS)
    texts = [template.format(phrase) for phrase in phrases for template in templates]
    encoder = model.encoder()

    def encoded(given: Sequence[str]) -> np.ndarray:
        ids = [encoder.answer(text, end=False)[0] for text in given]
        return token_states(model, ids, position="mean", batch_size=64).double().numpy()

    states = encoded(texts)
    layers, _, width = states.shape
    return {
        "templates": states.reshape(layers, len(phrases), len(templates), width).mean(2),
        "plain": encoded(phrases),
        "tokens": np.array([len(encoder.answer(phrase, end=False)[0]) for phrase in phrases]),
    }


def measured(states: dict[str, Any], seed: int) -> dict[str, Any]:
    """Fit on half of the verbs (and the anchor), choose the layer on half of the phrases, rank the other half."""
    draw = np.random.default_rng(seed)
    verbs = np.union1d(draw.choice(len(VERBS), len(VERBS) // 2, replace=False), [VERBS.index(ANCHOR)])
    first = len(VERBS)
    labels = np.r_[np.ones(len(DOS)), np.zeros(len(DONTS))]
    order = draw.permutation(len(labels))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    names = [VERBS[i] for i in verbs]
    directions = [moral_direction(layer[verbs], names) for layer in states["templates"]]

    def auroc(layer: int, half: np.ndarray, source: str = "templates", component: int = 0) -> float:
        scores = directions[layer].score_vectors(states[source][layer][first + half], component)
        return float(roc_auc_score(labels[half], scores))

    layer = max(range(len(directions)), key=lambda one: auroc(one, halves[0]))
    test = states["templates"][layer][first + halves[1]]
    random = [_oriented(test @ draw.normal(size=test.shape[1]), labels[halves[1]]) for _ in range(RANDOM)]
    return {
        "seed": seed,
        "layer": layer,
        "moral direction": auroc(layer, halves[1]),
        "without templates": auroc(layer, halves[1], "plain"),
        "component 2": max(auroc(layer, halves[1], component=1), 1 - auroc(layer, halves[1], component=1)),
        "random": float(np.mean(random)),
        "tokens": _oriented(states["tokens"][first + halves[1]], labels[halves[1]]),
        "explained": float(directions[layer].explained[0]),
    }


def _oriented(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the AUROC under the better of the two signs, which favours the baseline."""
    value = float(roc_auc_score(labels, scores))
    return max(value, 1 - value)


def released_correlations() -> dict[str, Any]:
    """Return Pearson's r of the released scores with both studies; nothing where the files are not there."""
    try:
        folder = data_folder("mort_nmi", GET)
    except InputError:
        return {}
    scores = read_scores(folder / "bert_md_scores.csv")
    studies = {"regional": "regional.csv", "global": "global.csv"}
    return {f"released r, {name}": correlation(scores, read_scores(folder / file)) for name, file in studies.items()}


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
