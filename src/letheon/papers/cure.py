"""CURE: Circuit-Aware Unlearning for LLM-based Recommendation.

arXiv 2604.04982, 2026-04.

Measured here: a small Llama says whether a user will like an item, from the user's name and first two items. Users like
one of three genres, which cannot be read off an item's name; some interactions of every third user go against that
rule and are to be forgotten. Every arm is read where its answers on the forgotten interactions come nearest to those of
a model retrained without them (JSD), beside the AUC on held-out interactions, and stops once it has moved away from
there for a while. All arms descend one bounded forget loss (NPO) and leave the embeddings alone, and each has its own
rate, chosen on tuning seeds by the JSD. Controls that can win: all blocks; groups of as many heads and MLPs, drawn at
random in each world; and the circuit's own modules under the plain sum of both gradients, which has CURE's capacity
without its groups. Reported: a circuit of half of the modules, and PCGrad on all modules.
An earlier record had 20 modules, one rate, an unbounded forget loss, and baselines that moved the embeddings.
Differs: PCGrad is our update on all modules as one shared group; the forget loss is not known [inferred]. Full scale:
GPT-2 Large and LLaMA-2-7B, MovieLens-1M.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np
from scipy.special import rel_entr
from sklearn.metrics import roc_auc_score

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.training.finetuning import finetune
from letheon.core.training.settings import TrainSettings
from letheon.forget.circuit_map import circuit_map
from letheon.forget.request import Request
from letheon.papers.common.pagerank import personalised_pagerank
from letheon.papers.common.small_llama import copy_of, small_llama
from letheon.papers.kit.arms import Arm, Taught, Trajectory, follow
from letheon.papers.kit.findings import Findings, Pairs, Threshold
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines, mean_course

GENRES, ITEMS, HISTORY, HELD_OUT, ODD = 3, 30, 2, 3, 3
# Weights begin four times as large as Llama's usual start: from there a model of this width learns who likes what.
START = 4.0
ARMS = {
    "CURE": "npo+by_group@circuit",
    "uniform": "npo@layers",
    "random groups": "npo+by_group@circuit:grouping=random,seed={seed}",
    "same modules": "npo+by_group:project=false@circuit:grouping=none",
    "CURE, half": "npo+by_group@circuit:share=0.5",
    "PCGrad": "npo+by_group@circuit:share=1,grouping=none",
}
BASELINES = ("uniform", "random groups", "same modules")
GROUPS = ("forget", "retain", "shared")
# Rates to choose from: a circuit of few modules has farther to go than all of them.
RATES = {arm: (5e-4, 2e-3) if arm in ("uniform", "PCGrad") else (2e-3, 6e-3) for arm in ARMS}
STEPS, LOOK, PATIENCE = 72, 6, 3
# "At higher utility": not lower by this much AUC.
MARGIN = 0.01


@dataclass(frozen=True)
class Shop:
    """Forget rows, retain rows, and test rows of every user that no model is trained on."""

    forget: list[Example]
    retain: list[Example]
    test: list[Example]


Point = dict[str, float]  # jsd: to the retrained model's answers; auc: on test rows; auc_retain: on retain rows
PRIMARY = tuple(f"{name}, CURE minus {baseline}" for baseline in BASELINES for name in ("JSD", "AUC"))


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: about a minute per seed on one thread, and more for each of the tuning seeds."""
    found.baselines += list(ARMS)[1:]
    rates = choose(found, RATES, lambda *run: -nearest(follow_arm(scale, *run).points)["jsd"])
    runs = {seed: {arm: follow_arm(scale, arm, rate, seed) for arm, rate in rates.items()} for seed in scale.seeds}
    best = {seed: {arm: nearest(run.points) for arm, run in arms.items()} for seed, arms in runs.items()}
    judge(found, best)
    starts = [start(seed, scale) for seed in scale.seeds]
    before = [taught.measure(taught.model) for taught, _ in starts]
    ours = [arms["CURE"] for arms in runs.values()]
    found.measured |= {
        "JSD before": fmean([point["jsd"] for point in before]),
        "test AUC before": fmean([point["auc"] for point in before]),
        "AUC of the retrained model": fmean([retrained for _, retrained in starts]),
        "modules in the circuit": [circuit_size(run.table) for run in ours],
        "cosine of forget and retain gradients, first step": {
            group: fmean([run.history[0][f"cosine_{group}"] for run in ours]) for group in GROUPS
        },
    }
    found.figures |= figures(list(runs.values()))
    found.rows += [{"seed": seed, "arm": arm, **point} for seed, arms in best.items() for arm, point in arms.items()]


def nearest(points: Sequence[Point]) -> Point:
    """The point nearest to retraining."""
    return min(points, key=lambda point: point["jsd"])


def circuit_size(table: Sequence[Mapping[str, Any]]) -> str:
    """The number of modules inside the circuit, of all, and by group."""
    inside = [row["group"] for row in table]
    counts = ", ".join(f"{inside.count(group)} {group}" for group in GROUPS)
    return f"{len(table) - inside.count('outside')} of {len(table)}: {counts}"


@cache
def start(seed: int, scale: Scale) -> tuple[Taught, float]:
    """Train the original model and the retrained one; the original as taught, and the AUC of the retrained one."""
    shop = make_shop(seed, 60 if scale.name == "full" else 30)
    blank = small_llama([*shop.forget, *shop.retain, *shop.test], seed, layers=4, width=64, heads=8)
    original, retrained = copy_of(blank), copy_of(blank)
    train(original, [*shop.forget, *shop.retain], seed)
    train(retrained, shop.retain, seed)
    target = [yes(p) for p in answers(retrained, shop.forget)]

    def point(model: LanguageModel) -> Point:
        jsd = mean_jsd([yes(p) for p in answers(model, shop.forget)], target)
        return {"jsd": jsd, "auc": auc(model, shop.test), "auc_retain": auc(model, shop.retain[::8])}

    request = Request(forget=tuple(shop.forget), retain=tuple(shop.retain))
    return Taught(original, request, point), auc(retrained, shop.test)


def follow_arm(scale: Scale, arm: str, rate: float, seed: int) -> Trajectory:
    """One arm from a copy of the original model, until it has not come nearer to retraining for `PATIENCE` looks."""
    taught, _ = start(seed, scale)
    seen: list[float] = []

    def past(point: Point) -> bool:
        seen.append(point["jsd"])
        return len(seen) - seen.index(min(seen)) > PATIENCE

    plan = Arm(ARMS[arm].format(seed=seed), rate, STEPS, batch_size=16, at=tuple(range(LOOK, STEPS + 1, LOOK)))
    return follow(taught.copied(), plan, seed, until=past)


def make_shop(seed: int, users: int) -> Shop:
    """Rows of every user with every item outside its history; every third user has rows against its genre."""
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
    """User -> the user whose items are farthest from it by personalised PageRank."""
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
    """Train until nearly every answer is known."""
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


def judge(found: Findings, best: Mapping[int, Mapping[str, Point]]) -> None:
    """CURE minus each baseline, paired over seeds, at the best point of each run."""

    def column(arm: str, name: str) -> list[float]:
        return [one[arm][name] for one in best.values()]

    for words, name in (
        ("JSD to retraining, best", "jsd"),
        ("test AUC there", "auc"),
        ("retain AUC there", "auc_retain"),
    ):
        found.measured[words] = {arm: fmean(column(arm, name)) for arm in ARMS}
    for baseline in BASELINES:
        for name, limit in (("jsd", Threshold(below=0.0)), ("auc", Threshold(above=-MARGIN))):
            found.decide(
                f"{name.upper()}, CURE minus {baseline}", Pairs(column(baseline, name), column("CURE", name)), **limit
            )


def figures(seeds: Sequence[Mapping[str, Trajectory]]) -> dict[str, str]:
    """The circuit of the first seed, and AUC over JSD along each arm, mean of the seeds."""
    series = {}
    for arm in ARMS:
        jsd, auc = (mean_course([arms[arm].column(name) for arms in seeds]) for name in ("jsd", "auc"))
        series[arm] = [(x, y) for (_, x), (_, y) in zip(jsd, auc, strict=True)]
    words = "Test AUC over divergence from retraining along each arm"
    return {
        "circuit": circuit_map(seeds[0]["CURE"].table, "Heads and MLPs of the circuit by group"),
        "paths": lines(series, "JSD to retraining", "test AUC", words),
    }
