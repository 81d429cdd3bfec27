"""Standard vs. Modular Sampling: Best Practices for Reliable LLM Unlearning.

arXiv 2509.05316, 2025-08; WIPE-OUT workshop at ECML-PKDD 2025.

Measured here: a small Llama that knows six people, their direct and indirect neighbours and general facts forgets the
people under the paper's sampling schemes, with the same loss, rows, rate and number of steps. Utility is the harmonic
mean of mean token probability, ROUGE-L recall of the greedy answer, and its cosine with the truth. Forget efficacy is 1
minus their arithmetic mean on the forget rows; it rewards garbage, so perplexity on rows that no run saw stands beside.
All schemes put their pairs in a new order each epoch, as the authors' trainer does; figures at equal epochs, where
one-to-one sampling takes fewer steps, and those of melu in the file's order are given too and decide nothing.

Differs: a cosine of word counts stands in for the sentence model's; ROUGE-L has the truth as its reference (in the
authors' code it is the generation); all weights move instead of a LoRA adapter; the model knows the test rows before.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.registry import find, make_settings
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.core.scoring.overlap import rouge_l_recall
from letheon.core.statistics import harmonic_mean
from letheon.forget.request import Request
from letheon.forget.samplers.modular import Exposure, Modular, exposure
from letheon.papers.common.neighbours import Neighbourly, fresh_model, make_neighbours
from letheon.papers.common.tofu_mini import train
from letheon.papers.kit.arms import Arm, Taught, run_each
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings, Pairs, Threshold
from letheon.papers.outcome import Scale
from letheon.report.plots import heat_map

OBJECTIVES = ("grad_diff", "dpo", "npo")
BASELINES = ("1_1seq", "1_1random", "cyclic")
IN_ORDER = "melu, in file order"
SINGLE = ("direct", "indirect", "balanced")  # single sets of neighbours; at the fast scale with NPO only
BATCH = 8
EPOCHS = 4  # as in the paper, of MELU's epoch: the number of steps of every run
POINTS = (0.25, 0.5, 0.75, 1.0)  # where utility is measured, as shares of the steps
# Chosen under one-to-one random sampling alone: every objective then brings forget efficacy above a half.
RATE = 5e-4

Point = dict[str, float]
Runs = Mapping[int, Mapping[tuple[str, str], Mapping[int, Point]]]  # seed -> (objective, scheme) -> step -> point
PRIMARY = tuple(
    f"{name}, melu minus {baseline}"
    for name in ("utility of direct neighbours", "its deviation over steps", "its distance from the seeds' mean")
    for baseline in BASELINES
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: half a minute to a minute per seed."""
    found.baselines += BASELINES
    runs: dict[int, Mapping[tuple[str, str], Mapping[int, Point]]] = {}
    exposures: dict[str, Exposure] = {}
    for seed in scale.seeds:
        runs[seed], exposures = forgetting_runs(seed, scale)
    judge(found, runs)
    found.measured |= equal_epochs(runs) | {"exposure": {name: _seen(one) for name, one in exposures.items()}}
    found.figures |= figures(runs, exposures)
    found.rows += [
        {"seed": seed, "objective": objective, "scheme": scheme, **point}
        for seed, arms in runs.items()
        for (objective, scheme), points in arms.items()
        for point in points.values()
    ]


# The runs -----------------------------------------------------------------------------------------------------------


def forgetting_runs(seed: int, scale: Scale) -> tuple[dict[tuple[str, str], dict[int, Point]], dict[str, Exposure]]:
    """Every objective under every scheme, each from the same trained model; and the exposure under each scheme."""
    full = scale.name == "full"
    world = make_neighbours(seed)
    model = fresh_model(world, seed, layers=4 if full else 2, width=128 if full else 64)
    model.model.to(scale.device)
    train(model, world.known(), seed, epochs=60, learning_rate=3e-3 if full else 5e-3)
    request = Request(forget=world.forget, retain=world.retain)
    options = {scheme: {"scheme": scheme, "shuffle": "true"} for scheme in ("melu", *BASELINES, *SINGLE)}
    options[IN_ORDER] = {"scheme": "melu"}
    record = find("sampler", "modular")
    samplers = {scheme: Modular(make_settings(record, given)) for scheme, given in options.items()}
    epochs = {scheme: EPOCHS * math.ceil(sampler.epoch(request) / BATCH) for scheme, sampler in samplers.items()}
    steps = epochs["melu"]
    arms: dict[tuple[str, str], Arm] = {}
    for objective, scheme in product(OBJECTIVES, samplers):
        if scheme in SINGLE and not full and objective != "npo":
            continue
        given = ",".join(f"{name}={value}" for name, value in options[scheme].items())
        at = {*(round(share * steps) for share in POINTS), min(epochs[scheme], steps)}
        arms[objective, scheme] = Arm(f"{objective}%modular:{given}", RATE, steps, BATCH, at=tuple(sorted(at)))
    trajectories = run_each(arms, Taught(model, request, utilities_of(world)), seed)
    runs = {
        (objective, scheme): {
            int(point["step"]): point | {"epochs_end": float(min(epochs[scheme], steps))} for point in run.points
        }
        for (objective, scheme), run in trajectories.items()
    }
    plans = {scheme: sampler.plan(request, BATCH, steps, seed) for scheme, sampler in samplers.items()}
    return runs, {scheme: exposure(request, plan) for scheme, plan in plans.items()}


def utilities_of(world: Neighbourly) -> Callable[[LanguageModel], Point]:
    """A measure of a model: utility per relation and on rows that no run sees, forget efficacy, perplexity."""
    sets = {
        "forget": list(world.forget),
        **{relation: world.of(relation) for relation in ("direct", "indirect", "general")},
        "test": list(world.test),
        "direct, unseen": [row for row in world.test if row.relation == "direct"],
    }
    rows = list(dict.fromkeys(row for part in sets.values() for row in part))

    def measure(model: LanguageModel) -> Point:

        found = dict(zip(rows, _three_numbers(model, rows), strict=True))
        point: Point = {}
        for name, part in sets.items():
            means = [sum(column) / len(part) for column in zip(*(found[row] for row in part), strict=True)]
            overlaps = means[:3]
            point[name] = 1 - sum(overlaps) / 3 if name == "forget" else harmonic_mean(overlaps)
            if name == "test":
                point["perplexity"] = math.exp(min(means[3], 50.0))
        return point

    return measure


def _three_numbers(model: LanguageModel, rows: Sequence[Example]) -> list[tuple[float, float, float, float]]:
    """Per row: mean token probability, ROUGE-L recall, cosine of word counts, and nats per token."""
    scored = score_answers(model, [(row.prompt, [row.answer]) for row in rows])
    said = generate(model, [row.prompt for row in rows], max_new_tokens=24, batch_size=256)
    numbers = []
    for row, answers, text in zip(rows, scored, said, strict=True):
        logp = answers[0].logp
        numbers.append((float(np.exp(logp).mean()), *_overlap(text, row.answer), -float(logp.mean())))
    return numbers


@cache
def _overlap(text: str, truth: str) -> tuple[float, float]:
    """ROUGE-L recall, and the cosine of the two texts' word counts."""
    said, right = Counter(text.lower().split()), Counter(truth.lower().split())
    size = math.sqrt(sum(n * n for n in said.values()) * sum(n * n for n in right.values()))
    return rouge_l_recall(text, truth), sum(n * right[word] for word, n in said.items()) / size if size else 0.0


# The verdict ----------------------------------------------------------------------------------------------------


def level(points: Mapping[int, Point], name: str = "direct") -> float:
    """A measurement after the last step."""
    return points[max(points)][name]


def swing(points: Mapping[int, Point]) -> float:
    """Standard deviation of the direct neighbours' utility over the points of the claim, about its linear trend.

    The trend is taken off because a scheme that forgets more, and so loses more, is not less steady for that.
    """
    last = max(points)
    values = [points[round(share * last)]["direct"] for share in POINTS]
    return float(np.std(values - np.polyval(np.polyfit(POINTS, values, 1), POINTS)))


def averaged(
    runs: Runs, scheme: str, number: Callable[[Mapping[int, Point]], float], objectives: Sequence[str] = OBJECTIVES
) -> list[float]:
    """One number per seed: a scheme's measurement, averaged over objectives."""
    return [sum(number(arms[o, scheme]) for o in objectives) / len(objectives) for arms in runs.values()]


def unsteadiness(runs: Runs, scheme: str) -> list[float]:
    """Distance of each seed's last utility of direct neighbours from the seeds' mean, averaged over the objectives."""
    columns = []
    for objective in OBJECTIVES:
        levels = averaged(runs, scheme, level, [objective])
        columns.append([abs(value - sum(levels) / len(levels)) for value in levels])
    return [sum(column) / len(column) for column in zip(*columns, strict=True)]


def judge(found: Findings, runs: Runs) -> None:
    """Measured values, intervals, and a verdict for each of the nine parts."""
    found.measured |= {
        f"last step, {name}": _by_scheme(runs, partial(level, name=name))
        for name in ("direct", "direct, unseen", "indirect", "general", "test", "forget", "perplexity")
    }
    found.measured |= {
        f"last step, {name}, {objective}": _by_scheme(runs, partial(level, name=name), [objective])
        for name, objective in product(("direct", "forget"), OBJECTIVES)
    }
    quantities: dict[str, tuple[Callable[[str], list[float]], Threshold]] = {
        "utility of direct neighbours": (lambda scheme: averaged(runs, scheme, level), Threshold(above=0.0)),
        "its deviation over steps": (lambda scheme: averaged(runs, scheme, swing), Threshold(below=0.0)),
        "its distance from the seeds' mean": (lambda scheme: unsteadiness(runs, scheme), Threshold(below=0.0)),
    }
    for (name, (number, threshold)), baseline in product(quantities.items(), BASELINES):
        found.decide(f"{name}, melu minus {baseline}", Pairs(number(baseline), number("melu")), **threshold)


def _by_scheme(
    runs: Runs, number: Callable[[Mapping[int, Point]], float], objectives: Sequence[str] = OBJECTIVES
) -> dict[str, float]:
    """Mean over seeds (and objectives) for each scheme that was run with all of them."""
    arms = next(iter(runs.values()))
    schemes = dict.fromkeys(scheme for _, scheme in arms)
    whole = [scheme for scheme in schemes if all((objective, scheme) in arms for objective in objectives)]
    return {scheme: sum(averaged(runs, scheme, number, objectives)) / len(runs) for scheme in whole}


def equal_epochs(runs: Runs) -> dict[str, Any]:
    """Utility of direct neighbours and forget efficacy after four epochs of each scheme's own length, and its steps."""

    def at_its_end(points: Mapping[int, Point], name: str) -> float:
        return points[int(points[max(points)]["epochs_end"])][name]

    return {
        f"four epochs, {words}": _by_scheme(runs, partial(at_its_end, name=name))
        for name, words in (("direct", "direct"), ("forget", "forget"), ("epochs_end", "steps"))
    }


def _seen(found: Exposure) -> dict[str, Any]:
    unseen = {relation: counts["unseen"] for relation, counts in found.relations.items()}
    return {"never met": unseen, "beside own neighbours or general": found.beside_own}


# Figures ------------------------------------------------------------------------------------------------------------


def figures(runs: Runs, exposures: Mapping[str, Exposure]) -> dict[str, str]:
    """Utility of direct neighbours over the steps for each objective, and the meetings of rows under two schemes."""
    drawn = {}
    for objective in OBJECTIVES:
        series = {}
        for scheme in ("melu", *BASELINES):
            steps = sorted(next(iter(runs.values()))[objective, scheme])
            means = [
                sum(arms[objective, scheme][step]["direct"] for arms in runs.values()) / len(runs) for step in steps
            ]
            series[scheme] = list(zip(map(float, steps), means, strict=True))
        words = (
            f"Utility of direct neighbours over the steps under four sampling schemes, {objective}, mean of the seeds"
        )
        drawn[f"direct-{objective.replace('_', '-')}"] = lines(series, "step", "utility of direct neighbours", words)
    for scheme in ("melu", "cyclic"):
        if scheme in exposures:
            drawn[f"met-{scheme}"] = meetings(exposures[scheme], scheme)
    return drawn


def meetings(counted: Exposure, scheme: str) -> str:
    """Heat map: how often forget rows of each entity (down) meet neighbours of each, and general rows (across)."""
    down = list(dict.fromkeys(entity for entity, _ in counted.together))
    across = [*down, *dict.fromkeys(owner for _, owner in counted.together if owner not in down)]
    counts = [[float(counted.together.get((entity, owner), 0)) for owner in across] for entity in down]
    people, owners = ([name.split()[-1] for name in side] for side in (down, across))
    words = f"How often forget rows of each person (down) met retain rows of each person (across), {scheme} sampling"
    return heat_map(counts, people, owners, words, low=0, high=max(map(max, counts)))
