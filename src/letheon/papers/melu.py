"""Standard vs. Modular Sampling: Best Practices for Reliable LLM Unlearning.

arXiv 2509.05316, 2025-08; WIPE-OUT workshop at ECML-PKDD 2025.

Measured here: a small Llama that knows six people, their direct and indirect neighbours and general facts forgets the
people under the paper's sampling schemes, with the same loss, rows, rate and number of steps. Utility is the harmonic
mean of mean token probability, ROUGE-L recall of the greedy answer, and its cosine with the truth. Forget efficacy is 1
minus their arithmetic mean on the forget rows; it rewards garbage, so perplexity on rows that no run saw stands beside.
Figures at equal epochs, where one-to-one sampling takes fewer steps, and those of melu with its pairs in a new order
each epoch (added after the others had been seen) are given too and decide nothing.

Differs: a cosine of word counts stands in for the sentence model's; ROUGE-L has the truth as its reference (in the
authors' code it is the generation); all weights move instead of a LoRA adapter; the model knows the test rows before.
Every scheme keeps the file's order (an order drawn once), since a trainer that shuffles would hide what differs.
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
from letheon.core.training.loop import TrainSettings
from letheon.forget.request import Request
from letheon.forget.run import forget
from letheon.forget.samplers.modular import Exposure, Modular, exposure
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common.figures import lines
from letheon.papers.common.neighbours import Neighbourly, fresh_model, make_neighbours
from letheon.papers.common.tofu_mini import copy_of, train
from letheon.papers.outcome import Claim, Findings, judge_pairs
from letheon.report.figures import canvas, svg

OBJECTIVES = ("grad_diff", "dpo", "npo")
BASELINES = ("1_1seq", "1_1random", "cyclic")
SHUFFLED = "melu, shuffled"
SINGLE = ("direct", "indirect", "balanced")  # single sets of neighbours; at the fast scale with NPO only
BATCH = 8
EPOCHS = 4  # as in the paper, of MELU's epoch: the number of steps of every run
POINTS = (0.25, 0.5, 0.75, 1.0)  # where utility is measured, as shares of the steps
# Chosen under one-to-one random sampling alone: every objective then brings forget efficacy above a half.
RATE = 5e-4
CLAIM = (
    "after the same number of steps, averaged over GradDiff, DPO and NPO: the utility of direct neighbours is higher "
    "under melu than under 1_1seq, 1_1random and cyclic sampling; its standard deviation over the steps is smaller; "
    "and so is its distance from the seeds' mean"
)

Point = dict[str, float]
Runs = Mapping[int, Mapping[tuple[str, str], Mapping[int, Point]]]  # seed -> (objective, scheme) -> step -> point


def reproduce(scale: Scale) -> Outcome:
    """Run the claim: half a minute to a minute a seed."""
    claim = Claim("melu", CLAIM, list(BASELINES))
    runs: dict[int, Mapping[tuple[str, str], Mapping[int, Point]]] = {}
    exposures: dict[str, Exposure] = {}
    for seed in scale.seeds:
        runs[seed], exposures = forgetting_runs(seed, scale)
    found = judged(runs)
    found.measured |= equal_epochs(runs) | {"exposure": {name: _seen(one) for name, one in exposures.items()}}
    rows = [
        {"seed": seed, "objective": objective, "scheme": scheme, "step": step, **point}
        for seed, arms in runs.items()
        for (objective, scheme), points in arms.items()
        for step, point in points.items()
    ]
    return claim.outcome(found, scale.seeds, figures(runs, exposures), rows)


# The runs -----------------------------------------------------------------------------------------------------------


def forgetting_runs(seed: int, scale: Scale) -> tuple[dict[tuple[str, str], dict[int, Point]], dict[str, Exposure]]:
    """Every objective under every scheme, each from the same trained model; and which rows met under each scheme."""

    full = scale.name == "full"
    world = make_neighbours(seed)
    model = fresh_model(world, seed, layers=4 if full else 2, width=128 if full else 64)
    model.model.to(scale.device)
    train(model, world.known(), seed, epochs=60, learning_rate=3e-3 if full else 5e-3)
    request = Request(forget=world.forget, retain=world.retain)
    training = TrainSettings(RATE, batch_size=BATCH, precision="float32", seed=seed)
    options = {scheme: {"scheme": scheme} for scheme in ("melu", *BASELINES, *SINGLE)}
    options[SHUFFLED] = {"scheme": "melu", "shuffle": "true"}
    record = find("sampler", "modular")
    samplers = {scheme: Modular(make_settings(record, given)) for scheme, given in options.items()}
    epochs = {scheme: EPOCHS * math.ceil(sampler.epoch(request) / BATCH) for scheme, sampler in samplers.items()}
    steps = epochs["melu"]
    measure = utilities_of(world)
    runs: dict[tuple[str, str], dict[int, Point]] = {}
    for objective, scheme in product(OBJECTIVES, samplers):
        if scheme in SINGLE and not full and objective != "npo":
            continue
        found: dict[int, Point] = {}
        wanted = {round(share * steps) for share in POINTS} | {min(epochs[scheme], steps)}

        def watch(now: LanguageModel, step: int, wanted: set[int] = wanted, found: dict[int, Point] = found) -> None:
            if step in wanted:
                found[step] = measure(now)

        given = ",".join(f"{name}={value}" for name, value in options[scheme].items())
        recipe = f"{objective}%modular:{given}"
        forget(
            copy_of(model), request, recipe, on_step=watch, steps=steps, training=training, collapse=False,
            device=scale.device,
        )  # fmt: skip
        for point in found.values():
            point["epochs_end"] = float(min(epochs[scheme], steps))
        runs[objective, scheme] = found
    plans = {scheme: sampler.plan(request, BATCH, steps, seed) for scheme, sampler in samplers.items()}
    return runs, {scheme: exposure(request, plan) for scheme, plan in plans.items()}


def utilities_of(world: Neighbourly) -> Callable[[LanguageModel], Point]:
    """A measure: utility of each relation and of the rows that no run sees, forget efficacy, perplexity."""
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
    """Of each row: mean token probability, ROUGE-L recall, cosine of word counts, and nats a token."""

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


# What is decided ----------------------------------------------------------------------------------------------------


def level(points: Mapping[int, Point], name: str = "direct") -> float:
    """A number at the last step."""
    return points[max(points)][name]


def swing(points: Mapping[int, Point]) -> float:
    """Standard deviation of the direct neighbours' utility over the points of the claim (equal shares of the steps)."""

    last = max(points)
    return float(np.std([points[round(share * last)]["direct"] for share in POINTS]))


def averaged(
    runs: Runs, scheme: str, number: Callable[[Mapping[int, Point]], float], objectives: Sequence[str] = OBJECTIVES
) -> list[float]:
    """A number of a scheme, averaged over objectives: one a seed."""
    return [sum(number(arms[o, scheme]) for o in objectives) / len(objectives) for arms in runs.values()]


def unsteadiness(runs: Runs, scheme: str) -> list[float]:
    """Distance of each seed's last utility of direct neighbours from the seeds' mean, averaged over the objectives."""
    columns = []
    for objective in OBJECTIVES:
        levels = averaged(runs, scheme, level, [objective])
        columns.append([abs(value - sum(levels) / len(levels)) for value in levels])
    return [sum(column) / len(column) for column in zip(*columns, strict=True)]


def judged(runs: Runs) -> Findings:
    """What was measured, its intervals, and a verdict for each of the nine parts of the claim."""
    measured: dict[str, Any] = {
        f"last step, {name}": _by_scheme(runs, partial(level, name=name))
        for name in ("direct", "direct, unseen", "indirect", "general", "test", "forget", "perplexity")
    }
    measured |= {
        f"last step, {name}, {objective}": _by_scheme(runs, partial(level, name=name), [objective])
        for name, objective in product(("direct", "forget"), OBJECTIVES)
    }
    found = Findings(measured)
    quantities: dict[str, tuple[Callable[[str], list[float]], Any]] = {
        "utility of direct neighbours": (lambda scheme: averaged(runs, scheme, level), "above"),
        "its deviation over steps": (lambda scheme: averaged(runs, scheme, swing), "below"),
        "its distance from the seeds' mean": (lambda scheme: unsteadiness(runs, scheme), "below"),
    }
    for (name, (number, side)), baseline in product(quantities.items(), BASELINES):
        found.decide({f"{name}, melu minus {baseline}": judge_pairs(number(baseline), number("melu"), 0.0, side)})
    return found


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
    """Utility of direct neighbours over the steps for each objective, and who met whom under two schemes."""

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


def meetings(found: Exposure, scheme: str) -> str:
    """Heat map: how often forget rows of each entity (down) meet neighbours of each, and general rows (across)."""

    down = list(dict.fromkeys(entity for entity, _ in found.together))
    across = [*down, *dict.fromkeys(owner for _, owner in found.together if owner not in down)]
    counts = [[found.together.get((entity, owner), 0) for owner in across] for entity in down]
    with canvas(2.7) as (figure, axes):
        axes.pcolormesh(counts, cmap="Blues", edgecolors="none")  # an image would be a bitmap inside the page
        axes.invert_yaxis()
        for (y, row), (x, _) in product(enumerate(counts), enumerate(across)):
            dark = row[x] > max(map(max, counts)) / 2
            axes.text(x + 0.5, y + 0.5, str(row[x]), ha="center", va="center", color="#fefefe" if dark else "#22262b")
        axes.set_xticks(
            [x + 0.5 for x in range(len(across))], [name.split()[-1] for name in across], rotation=45, ha="right"
        )
        axes.set_yticks([y + 0.5 for y in range(len(down))], [name.split()[-1] for name in down])
        axes.set(xlabel="neighbours of, or relation", ylabel="forget rows of")
        return svg(figure, f"How often forget rows of each person met retain rows of each person, {scheme} sampling")
