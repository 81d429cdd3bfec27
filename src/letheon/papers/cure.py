"""CURE: Circuit-Aware Unlearning for LLM-based Recommendation.

arXiv 2604.04982, 2026-04.

Measured here: a small Llama says whether a user will like an item, from the user's name and first two items. Users like
one of three genres, which cannot be read off an item's name; some interactions of every third user go against that
rule and shall be forgotten. Every arm takes the same steps at the same rate; each is read where its answers on the
forgotten interactions come nearest to those of a model retrained without them (JSD), beside the AUC on held-out
interactions. The number of steps was raised once, from 24: a circuit of a fifth of the modules was still on its way.
Differs: PCGrad is our update on all modules as one shared group. Full scale: GPT-2 Large and LLaMA-2-7B, MovieLens-1M.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy.special import rel_entr
from sklearn.metrics import roc_auc_score

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.training.finetuning import finetune
from letheon.core.training.loop import TrainSettings
from letheon.forget.circuit_map import circuit_map
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common.figures import lines
from letheon.papers.common.pagerank import personalised_pagerank
from letheon.papers.common.tofu_mini import World, copy_of, new_model
from letheon.papers.outcome import Claim, Findings, judge_pairs

GENRES, ITEMS, HISTORY, HELD_OUT, ODD = 3, 30, 2, 3, 3
# Weights begin four times as large as Llama's usual start: from there a model of this width learns who likes what.
START = 4.0
ALL_SHARED = "circuit:share=1,ratio=1e9"
ARMS = {
    "CURE": "grad_diff+by_group@circuit",
    "random groups": "grad_diff+by_group@circuit:grouping=random",
    "uniform GradDiff": "grad_diff",
    "PCGrad": f"grad_diff+by_group@{ALL_SHARED}",
    "forget only": f"gradient_ascent@{ALL_SHARED}",
}
BASELINES = ("uniform GradDiff", "random groups")
GROUPS = ("forget", "retain", "shared")
RATE, STEPS, LOOK = 1e-3, 60, 4
# "At higher utility": not lower by this much AUC.
MARGIN = 0.01
CLAIM = (
    "at its best point along equal steps, circuit-aware unlearning is nearer to retraining (lower JSD on the forgotten "
    "interactions) than uniform gradient difference and than random groups of the same sizes, at a test AUC that "
    "is not lower by 0.01"
)


@dataclass(frozen=True)
class Shop:
    """The rows: to be forgotten, to be kept, and of each user some that no model is trained on."""

    forget: list[Example]
    retain: list[Example]
    test: list[Example]


@dataclass(frozen=True)
class Point:
    """A model along a run."""

    jsd: float
    auc: float
    auc_retain: float


def reproduce(scale: Scale) -> Outcome:
    """Run the claim: about a minute a seed on one thread."""
    claim = Claim("cure", CLAIM, list(ARMS)[1:])
    runs = {seed: arms(seed, scale) for seed in scale.seeds}
    best = {seed: {arm: nearest(points) for arm, points in found.paths.items()} for seed, found in runs.items()}
    found = judged(best)
    found.measured |= {
        "JSD before": fmean([run.before.jsd for run in runs.values()]),
        "test AUC before": fmean([run.before.auc for run in runs.values()]),
        "AUC of the retrained model": fmean([run.retrained for run in runs.values()]),
        "modules in the circuit": [run.size for run in runs.values()],
        "cosine of forget and retain gradients, first step": {
            group: fmean([run.cosines[group] for run in runs.values()]) for group in GROUPS
        },
    }
    rows = [{"seed": seed, "arm": arm, **point.__dict__} for seed, arms in best.items() for arm, point in arms.items()]
    return claim.outcome(found, scale.seeds, figures(runs), rows)


def nearest(points: Sequence[Point]) -> Point:
    """The point nearest to retraining."""
    return min(points, key=lambda point: point.jsd)


@dataclass
class Run:
    """One seed: the points along each arm, and what was found on the way."""

    paths: dict[str, list[Point]]
    before: Point
    retrained: float
    size: str
    cosines: dict[str, float]
    table: list[dict[str, Any]]


def arms(seed: int, scale: Scale) -> Run:
    """Train the original and the retrained model, then run every arm from the original."""

    shop = make_shop(seed, 60 if scale.name == "full" else 30)
    blank = new_model(World(tuple(shop.forget), tuple(shop.retain), tuple(shop.test), ()), seed, width=64)
    original, retrained = copy_of(blank), copy_of(blank)
    train(original, [*shop.forget, *shop.retain], seed)
    train(retrained, shop.retain, seed)
    target = [yes(p) for p in answers(retrained, shop.forget)]

    def point(model: LanguageModel) -> Point:
        found = [yes(p) for p in answers(model, shop.forget)]
        return Point(mean_jsd(found, target), auc(model, shop.test), auc(model, shop.retain[::4]))

    request = Request(forget=tuple(shop.forget), retain=tuple(shop.retain))
    training = TrainSettings(RATE, batch_size=16, precision="float32", seed=seed)
    paths: dict[str, list[Point]] = {}
    size, cosines, table = "", {}, []
    for arm, recipe in ARMS.items():
        points: list[Point] = []

        def watch(model: LanguageModel, steps: int, points: list[Point] = points) -> None:
            if steps % LOOK == 0:
                points.append(point(model))

        result = forget(
            copy_of(original), request, recipe, on_step=watch, steps=STEPS, training=training, collapse=False
        )
        paths[arm] = points
        if arm == "CURE":
            table = result.table
            inside = [row["group"] for row in table]
            counts = ", ".join(f"{inside.count(group)} {group}" for group in GROUPS)
            size = f"{len(table) - inside.count('outside')} of {len(table)}: {counts}"
            cosines = {group: result.outcome.history[0][f"cosine_{group}"] for group in GROUPS}
    return Run(paths, point(original), auc(retrained, shop.test), size, cosines, table)


def make_shop(seed: int, users: int) -> Shop:
    """Every user with every item but those of the history; every third user has some that go against the genres."""
    draw = random.Random(seed)
    loved = {user: draw.randrange(GENRES) for user in range(users)}
    taken = {user: draw.sample(range(ITEMS), ITEMS) for user in range(users)}
    said = {(u, i): draw.random() < (0.95 if i % GENRES == loved[u] else 0.05) for u in taken for i in range(ITEMS)}
    odd = {(user, item) for user in range(0, users, 3) for item in taken[user][HISTORY : HISTORY + ODD]}
    said |= {(user, item): item % GENRES != loved[user] for user, item in odd}
    twins = twins_of({user: [item for item in found if said[user, item]] for user, found in taken.items()})
    shop = Shop([], [], [])
    for user, found in taken.items():
        for place, item in enumerate(found[HISTORY:], start=HISTORY):
            row = _row(user, item, said, twins[user], taken)
            held_out = place >= ITEMS - HELD_OUT
            (shop.forget if (user, item) in odd else shop.test if held_out else shop.retain).append(row)
    return shop


def twins_of(taken: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """For each user the one whose items are farthest from it by personalised PageRank."""

    found = {}
    for user in taken:
        scores = personalised_pagerank(taken, user, tolerance=1e-6)
        found[user] = min((u for u in taken if u != user), key=lambda u: sum(scores[item] for item in taken[u]))
    return found


def _row(
    user: int, item: int, said: Mapping[tuple[int, int], bool], twin: int, taken: Mapping[int, Sequence[int]]
) -> Example:

    def prompt(who: int) -> str:
        marks = " ".join(f"i{i} {'liked' if said[who, i] else 'disliked'}" for i in taken[who][:HISTORY])
        return f"u{who} {marks} will i{item} be liked"

    right, wrong = ("Yes", "No") if said[user, item] else ("No", "Yes")
    name = f"user {user}, item {item}"
    return Example(prompt(user), right, name, perturbed_answers=(wrong,), counterfactual=prompt(twin))


def train(model: LanguageModel, rows: Sequence[Example], seed: int) -> None:
    """Until nearly every answer is known."""

    for parameter in model.model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(START)
    training = TrainSettings(
        1e-3, weight_decay=0.01, batch_size=16, schedule="linear", warmup_steps=50, precision="float32", seed=seed
    )
    finetune(model, rows, training, 900, title="learning who likes what")


def answers(model: LanguageModel, rows: Sequence[Example]) -> list[tuple[float, float]]:
    """Probabilities of Yes and of No as the next token."""

    scored = score_answers(model, [(row.prompt, ["Yes", "No"]) for row in rows])
    return [(float(np.exp(a.logp[0])), float(np.exp(b.logp[0]))) for a, b in scored]


def yes(found: tuple[float, float]) -> float:
    """p(Yes) / (p(Yes) + p(No))."""
    return found[0] / max(sum(found), 1e-30)


def mean_jsd(found: Sequence[float], target: Sequence[float]) -> float:
    """Mean Jensen-Shannon divergence (nats) of two lists of Yes probabilities."""

    p, q = (np.stack([np.array(values), 1 - np.array(values)], 1) for values in (found, target))
    middle = (p + q) / 2
    return float((0.5 * rel_entr(p, middle) + 0.5 * rel_entr(q, middle)).sum(1).mean())


def auc(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Area under the ROC curve of p(Yes) for what users liked."""

    return float(roc_auc_score([row.answer == "Yes" for row in rows], [yes(p) for p in answers(model, rows)]))


def judged(best: Mapping[int, Mapping[str, Point]]) -> Findings:
    """CURE minus each baseline, paired over seeds, at each run's best point."""
    found = Findings(
        {
            "JSD to retraining, best": {arm: fmean([one[arm].jsd for one in best.values()]) for arm in ARMS},
            "test AUC there": {arm: fmean([one[arm].auc for one in best.values()]) for arm in ARMS},
            "retain AUC there": {arm: fmean([one[arm].auc_retain for one in best.values()]) for arm in ARMS},
        }
    )
    for baseline in BASELINES:
        for name, limit in (("jsd", 0.0), ("auc", -MARGIN)):
            theirs, ours = ([getattr(one[arm], name) for one in best.values()] for arm in (baseline, "CURE"))
            part = judge_pairs(theirs, ours, limit, "below" if name == "jsd" else "above")
            found.decide({f"{name.upper()}, CURE minus {baseline}": part})
    return found


def figures(runs: Mapping[int, Run]) -> dict[str, str]:
    """The circuit of the first seed, and AUC over JSD along each arm, mean of the seeds."""

    series = {}
    for arm in ARMS:
        steps = zip(*(run.paths[arm] for run in runs.values()), strict=True)
        series[arm] = [(fmean([p.jsd for p in points]), fmean([p.auc for p in points])) for points in steps]
    first = next(iter(runs.values()))
    return {
        "circuit": circuit_map(first.table, "Heads and MLPs of the circuit by group"),
        "paths": lines(
            series, "JSD to retraining", "test AUC", "Test AUC over divergence from retraining along each arm"
        ),
    }
