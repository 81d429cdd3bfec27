"""Standard vs. Modular Sampling: Best Practices for Reliable LLM Unlearning.

arXiv 2509.05316, 2025-08; WIPE-OUT workshop at ECML-PKDD 2025.

Measured here: a small Llama that knows six people, their direct and indirect neighbours and general facts forgets the
people under the paper's sampling schemes, with the same loss, rows and number of steps. Utility is the harmonic mean of
mean token probability, ROUGE-L recall of the greedy answer, and its cosine with the truth. Remembered is the arithmetic
mean of these on the forget rows: 1 minus the paper's forget efficacy, which rewards garbage, so that perplexity on rows
that no run saw stands beside. Utility of direct neighbours is read where the compared schemes remember equally little,
and its steadiness as the deviation about the line that the run follows, since who forgets more also loses more. Every
pair of loss and scheme has its own rate, chosen on tuning seeds by the utility that is judged. All schemes put their
pairs in a new order each epoch, as the authors' trainer does, four pairs per step; figures at equal epochs, where
one-to-one sampling takes fewer steps, single sets of neighbours and melu in the file's order are given too and decide
nothing. An earlier record had one rate, modules in the file's order, and read schemes that had forgotten unequally.

Differs: a cosine of word counts stands in for the sentence model's; ROUGE-L has the truth as its reference (in the
authors' code it is the generation); all weights move instead of a LoRA adapter; the model knows the test rows before.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.registry import find, make_settings
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.scoring.overlap import rouge_l_recall
from letheon.core.statistics import harmonic_mean
from letheon.forget.request import Request
from letheon.forget.samplers.modular import Exposure, Modular, exposure
from letheon.papers.common.neighbours import Neighbourly, fresh_model, make_neighbours
from letheon.papers.common.small_llama import copy_of, scored
from letheon.papers.common.tofu_mini import train
from letheon.papers.kit.arms import Arm, Taught, Trajectory, follow
from letheon.papers.kit.findings import Findings, Pairs, mean
from letheon.papers.kit.levels import EqualForgetting, Runs, at_equal_forgetting, first_crossing
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import heat_map

OBJECTIVES = ("grad_diff", "dpo", "npo")
BASELINES = ("1_1seq", "1_1random", "cyclic")
SCHEMES = ("melu", *BASELINES)
IN_ORDER = "melu, in file order"
ASIDE = ("direct", "indirect", "balanced", IN_ORDER)  # with NPO only, at melu's rate
BATCH = 4  # one pair times four accumulated in the paper
EPOCHS = 4  # as in the paper, of MELU's epoch: the number of steps of every run
POINTS = 8  # measurements along a run, after equally many steps
RATES = (1e-4, 3e-4, 1e-3)
DEEP = 0.5  # remembered, where a rate is chosen and at most which schemes are compared
LEVELS = tuple(level / 20 for level in range(4, 19))
TOKENS = 16  # of a generated answer
SETS = ("direct", "direct, unseen", "indirect", "general", "test")

PRIMARY = tuple(
    f"{name}, melu minus {baseline}"
    for name in ("utility of direct neighbours", "its deviation over steps")
    for baseline in BASELINES
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim."""
    found.baselines += BASELINES
    full = scale.name == "full"
    names = {arm(objective, scheme): RATES for objective, scheme in product(OBJECTIVES, SCHEMES)}
    rates = choose(found, names, lambda name, rate, seed: kept_deep(run(start(seed, full), name, rate, deep=True)))
    rates |= {arm("npo", scheme): rates[arm("npo", "melu")] for scheme in ASIDE}
    start.cache_clear()
    runs: dict[int, dict[str, Trajectory]] = {}
    exposures: dict[str, Exposure] = {}
    for seed in scale.seeds:
        here = start(seed, full)
        runs[seed] = {name: run(here, name, rate) for name, rate in rates.items()}
        exposures = {scheme: met(here, scheme) for scheme in (*SCHEMES, *ASIDE)}
        start.cache_clear()
    judge(found, runs)
    found.measured["exposure"] = {name: _seen(one) for name, one in exposures.items()}
    found.figures |= figures(runs, exposures)
    found.rows += [
        {"seed": seed, "arm": name, **point}
        for seed, arms in runs.items()
        for name, one in arms.items()
        for point in one.points
    ]


# The runs -----------------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """One seed's world, the model that knows it, and the request."""

    seed: int
    world: Neighbourly
    model: LanguageModel
    request: Request


def arm(objective: str, scheme: str) -> str:
    """The name of an arm."""
    return f"{objective}, {scheme}"


@cache
def start(seed: int, full: bool) -> Start:
    """Draw a world and teach it to a model."""
    world = make_neighbours(seed)
    model = fresh_model(world, seed, layers=4 if full else 2, width=128 if full else 64)
    train(model, world.known(), seed, epochs=60, learning_rate=3e-3 if full else 5e-3)
    return Start(seed, world, model, Request(forget=world.forget, retain=world.retain))


def sampler(scheme: str) -> tuple[Modular, str]:
    """The sampler of a scheme, and its part of a recipe."""
    given = {"scheme": "melu"} if scheme == IN_ORDER else {"scheme": scheme, "shuffle": "true"}
    made = Modular(make_settings(find("sampler", "modular"), given))
    return made, ",".join(f"{name}={value}" for name, value in given.items())


def epochs_end(here: Start, scheme: str) -> int:
    """The steps that a scheme's own epochs take, or all steps where they take more."""
    lengths = [EPOCHS * math.ceil(sampler(one)[0].epoch(here.request) / BATCH) for one in (scheme, "melu")]
    return min(lengths)


def met(here: Start, scheme: str) -> Exposure:
    """Which rows meet in a run."""
    plan = sampler(scheme)[0].plan(here.request, BATCH, epochs_end(here, "melu"), here.seed)
    return exposure(here.request, plan)


def run(here: Start, name: str, rate: float, *, deep: bool = False) -> Trajectory:
    """Forget with one loss under one scheme, in as many steps as MELU's epochs take.

    The last point has all utilities; the points before, the forget rows and direct neighbours.

    Args:
        deep: end where the forget rows are remembered as little as `DEEP`, with no further utilities.
    """
    objective, scheme = name.split(", ", 1)
    steps = epochs_end(here, "melu")
    at = {round(steps * point / POINTS) for point in range(POINTS + 1)} | {epochs_end(here, scheme)}
    plan = Arm(f"{objective}%modular:{sampler(scheme)[1]}", rate, steps, BATCH, at=tuple(sorted(at)))
    copied = copy_of(here.model)
    taught = Taught(copied, here.request, utilities_of(here.world, ("direct",)))
    course = follow(taught, plan, here.seed, until=lambda point: deep and point["remembered"] <= DEEP)
    if not deep:
        course.points[-1] |= utilities_of(here.world, SETS)(copied)
        course.points[-1]["epochs_end"] = epochs_end(here, scheme)
    return course


def kept_deep(course: Trajectory) -> float | None:
    """Utility of direct neighbours where the forget rows are remembered as little as `DEEP`."""
    return first_crossing(course.column("remembered"), course.column("direct"), DEEP)


def utilities_of(world: Neighbourly, names: Sequence[str]) -> Callable[[LanguageModel], dict[str, float]]:
    """A measure of a model: how far the forget rows are remembered, the utility of sets, and perplexity if tested."""
    sets = {
        **{relation: world.of(relation) for relation in ("direct", "indirect", "general")},
        "test": list(world.test),
        "direct, unseen": [row for row in world.test if row.relation == "direct"],
    }
    chosen = {"remembered": list(world.forget)} | {name: sets[name] for name in names}
    rows = list(dict.fromkeys(row for part in chosen.values() for row in part))

    def measure(model: LanguageModel) -> dict[str, float]:
        found = dict(zip(rows, _three_numbers(model, rows), strict=True))
        point: dict[str, float] = {}
        for name, part in chosen.items():
            means = [sum(column) / len(part) for column in zip(*(found[row] for row in part), strict=True)]
            overlaps = means[:3]
            point[name] = sum(overlaps) / 3 if name == "remembered" else harmonic_mean(overlaps)
            if name == "test":
                point["perplexity"] = math.exp(min(means[3], 50.0))
        return point

    return measure


def _three_numbers(model: LanguageModel, rows: Sequence[Example]) -> list[tuple[float, float, float, float]]:
    """Per row: mean token probability, ROUGE-L recall, cosine of word counts, and nats per token."""
    said = generate(model, [row.prompt for row in rows], max_new_tokens=TOKENS, batch_size=256)
    numbers = []
    for row, score, text in zip(rows, scored(model, rows), said, strict=True):
        numbers.append((float(np.exp(score.logp).mean()), *_overlap(text, row.answer), -float(score.logp.mean())))
    return numbers


@cache
def _overlap(text: str, truth: str) -> tuple[float, float]:
    """ROUGE-L recall, and the cosine of the two texts' word counts."""
    said, right = Counter(text.lower().split()), Counter(truth.lower().split())
    size = math.sqrt(sum(n * n for n in said.values()) * sum(n * n for n in right.values()))
    return rouge_l_recall(text, truth), sum(n * right[word] for word, n in said.items()) / size if size else 0.0


# The verdict ----------------------------------------------------------------------------------------------------


def compared(runs: Runs, objective: str) -> EqualForgetting:
    """An objective's schemes where the forget rows are remembered equally little."""
    names = [arm(objective, scheme) for scheme in SCHEMES]
    return at_equal_forgetting(runs, names, keep="direct", by="remembered", levels=LEVELS)


def swing(course: Trajectory) -> float:
    """Standard deviation of the direct neighbours' utility about its linear trend, over the equally spaced points.

    The trend is taken off because a scheme that forgets more, and so loses more, is not less steady for that.
    """
    spaced = {round(int(course.last["step"]) * point / POINTS) for point in range(1, POINTS + 1)}
    points = [(p["step"], p["direct"]) for p in course.points if p["step"] in spaced]
    steps, values = zip(*points, strict=True)
    return float(np.std(np.array(values) - np.polyval(np.polyfit(steps, values, 1), steps)))


def averaged(columns: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Means over objectives, one value per seed; None where an objective has none."""
    return [None if None in column else mean(column) for column in zip(*columns, strict=True)]


def judge(found: Findings, runs: Runs) -> None:
    """Measured values, intervals, and a verdict for each of the six parts."""
    kept = {objective: compared(runs, objective) for objective in OBJECTIVES}
    found.measured["compared where remembered is"] = {objective: one.level for objective, one in kept.items()}
    found.check(
        f"read where at most {DEEP} is remembered",
        all(one.level is not None and one.level <= DEEP for one in kept.values()),
    )
    direct = {s: averaged([kept[o].values(arm(o, s)) for o in OBJECTIVES]) for s in SCHEMES}
    swings = {s: averaged([[swing(arms[arm(o, s)]) for arms in runs.values()] for o in OBJECTIVES]) for s in SCHEMES}
    found.measured["utility of direct neighbours there"] = {scheme: mean(values) for scheme, values in direct.items()}
    found.measured["its deviation over steps"] = {scheme: mean(values) for scheme, values in swings.items()}
    found.measured |= {f"utility of direct neighbours there, {o}": one.means() for o, one in kept.items()}
    for baseline in BASELINES:
        pairs = Pairs(direct[baseline], direct["melu"])
        found.decide(f"utility of direct neighbours, melu minus {baseline}", pairs, above=0.0)
        pairs = Pairs(swings[baseline], swings["melu"])
        found.decide(f"its deviation over steps, melu minus {baseline}", pairs, below=0.0)
        apart = Pairs(_from_mean(direct[baseline]), _from_mean(direct["melu"]))
        found.report(f"its distance from the seeds' mean, melu minus {baseline}", apart, below=0.0)
    every = next(iter(runs.values()))
    for name in ("remembered", *SETS, "perplexity"):
        found.measured[f"last step, {name}"] = {a: mean(arms[a].last[name] for arms in runs.values()) for a in every}
    for name in ("remembered", "direct"):
        found.measured[f"{EPOCHS} epochs of its own length, {name}"] = {
            a: mean(arms[a].after(int(arms[a].last["epochs_end"]), name) for arms in runs.values()) for a in every
        }


def _from_mean(values: Sequence[float | None]) -> list[float | None]:
    """The distance of each seed's value from the seeds' mean."""
    middle = mean(values)
    return [None if one is None or middle is None else abs(one - middle) for one in values]


def _seen(found: Exposure) -> dict[str, Any]:
    unseen = {relation: counts["unseen"] for relation, counts in found.relations.items()}
    return {"never met": unseen, "beside own neighbours or general": found.beside_own}


# Figures ------------------------------------------------------------------------------------------------------------


def figures(runs: Runs, exposures: Mapping[str, Exposure]) -> dict[str, str]:
    """Utility of direct neighbours over what is remembered for each objective, and the meetings under two schemes."""
    drawn = {}
    for objective in OBJECTIVES:
        words = f"Utility of direct neighbours over what is remembered of forget rows, {objective}, mean of the seeds"
        drawn[f"direct-{objective.replace('_', '-')}"] = compared(runs, objective).figure(
            "remembered", "utility of direct neighbours", words, arms=[arm(objective, scheme) for scheme in SCHEMES]
        )
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
