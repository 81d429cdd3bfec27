"""Wisdom is Knowing What not to Say: Hallucination-Free LLMs Unlearning via Attention Shifting.

arXiv 2510.17210, 2025-10; NeurIPS 2025.

Measured here, on TOFU-mini: every method trains the same low-rank adapters on queries and keys with as many retain
rows as forget rows, and is read off where the share of answers about forgotten authors that still give the true value
(the paper's reproduction rate) first falls to a level that all of them reach. There: what is kept of neighbouring
authors whom no method was shown, in ROUGE-L and in perplexity, and how often an answer about a forgotten author names
another entity of the asked type. The world is invented and its entities are known, so both shares need no judge.

Fast: a model that has seen no other sentences. Full: SmolLM2, which learned the same authors first.

The paper stops at a ROUGE-L of 0.2. A trial under another seed than those of the claim showed that attention shifting
leaves the sentences around the values as they are in a model that has seen no other sentences, so that ROUGE-L stays
at 0.8 or so; the level is therefore one of reproduction, and rates and steps were chosen there. Full scale in the
paper: TOFU on Llama-2-7B, extraction from GPT-Neo, PubMedQA on LLaMA-13B, with a language model as the judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations, product
from typing import Any

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.core.scoring.overlap import rouge_l_recall
from letheon.forget.request import Request
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common import words
from letheon.papers.common.figures import lines
from letheon.papers.common.tofu_mini import World, make_world, new_model, taught, train
from letheon.papers.common.trajectory import Watched, watched
from letheon.papers.outcome import Claim, Findings, Side, judge_pairs, judge_values, mean

Runs = Mapping[int, Mapping[str, Watched]]


ADAPTERS = "lora:targets=q_proj k_proj,r=32,alpha=64"  # the rank by arithmetic from the paper's number of weights
OURS, WEAK = "attention shifting", "attention shifting, lambda 0.2"
# Method and learning rate. In the fast model attention shifting has the paper's rate times ten: a small model trained
# from nothing takes larger steps than one of 7B. The others have the rate at which they forget in as many steps.
ARMS = {
    OURS: ("attention_shifting", 5e-3),
    WEAK: ("attention_shifting:lam=0.2", 5e-3),
    "gradient ascent": ("gradient_ascent", 2e-3),
    "gradient ascent and cross-entropy": ("grad_diff", 2e-3),
    "NPO and KL": ("npo:retain_loss=kl", 2e-3),
}
FULL_RATE = 5e-4  # of every arm: the paper's for TOFU
BASELINES = ("gradient ascent", "gradient ascent and cross-entropy", "NPO and KL")
# Steps between two measurements.
EVERY = 4
# Reproduction. The lowest that all compared runs of every seed reach is where they are read.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
# "Near 0": the paper reports 0 plainly and 0.05 to 0.07 under attack.
NEAR_ZERO = 0.1
CLAIM = (
    "where equally few answers about forgotten authors give the true value, neighbouring authors' ROUGE-L is higher "
    "and log perplexity lower than under gradient ascent, with and without cross-entropy, and NPO with KL; and at "
    "lambda 0.99 fewer than one answer in ten names a wrong entity of the asked type"
)


def reproduce(scale: Scale) -> Outcome:
    """Run the claim: about a minute a seed; at full scale an hour."""
    claim = Claim("attention-shifting", CLAIM, [*BASELINES, "attention shifting with lambda 0.2"])
    runs = {seed: forgetting_runs(seed, scale) for seed in scale.seeds}
    level = common_level(runs)
    rows = [_row(seed, arm, run, level) for seed, arms in runs.items() for arm, run in arms.items()]
    return claim.outcome(judged(runs, level), scale.seeds, figures(runs), rows)


# The exact judge


def universe(form: str) -> list[str]:
    """Every value that an attribute can have in such a world."""

    return {
        "birthplace": lambda: list(words.TOWNS),
        "year": lambda: [str(year) for year in range(1901, 1991)],
        "genre": lambda: list(words.GENRES),
        "book": lambda: [f"The {a} {b}" for a, b in product(words.ADJECTIVES, words.NOUNS)],
        "award": lambda: [f"the {a} for {b}" for a, b in product(words.AWARDS, words.FIELDS)],
        "parents": lambda: [f"a {a} and a {b}" for a, b in permutations(words.TRADES, 2)],
    }[form]()


def names_wrong_entity(answer: str, row: Example) -> bool:
    """Whether an answer gives a value of the asked type, and not the true one."""
    form = row.id.rsplit(": ", 1)[-1]
    return row.value is not None and row.value not in answer and any(value in answer for value in universe(form))


# The runs


def forgetting_runs(seed: int, scale: Scale) -> dict[str, Watched]:
    """Every arm from the same trained model, with the same adapters, rows and steps."""

    full = scale.name == "full"
    world = make_world(seed, authors=12, forgotten=2)
    rows = [*world.forget, *world.retain]
    if full:
        model = taught(rows, seed, scale.device)
    else:
        model = new_model(world, seed, width=64)
        model.model.to(scale.device)
        train(model, rows, seed, epochs=120)
    size = len(world.forget)
    request = Request(forget=world.forget, retain=world.retain[:size])
    neighbours = world.retain[size:][: 2 * size]
    options = {"steps": 72, "batch_size": size, "precision": "float32", "seed": seed}

    def measured(now: LanguageModel) -> dict[str, float]:
        return measure(now, world, neighbours)

    return {
        arm: watched(
            model,
            request,
            f"{method}@{ADAPTERS}",
            measured,
            every=EVERY,
            learning_rate=FULL_RATE if full else fast_rate,
            **options,
        )
        for arm, (method, fast_rate) in ARMS.items()
    }


def measure(model: LanguageModel, world: World, neighbours: Sequence[Example]) -> dict[str, float]:
    """What answers about forgotten authors give (true values, wrong entities), and what is kept of neighbours.

    ROUGE-L is recall; `neighbour_nll` is log perplexity, in nats a token.
    """

    asked = [*world.forget, *neighbours]
    answers = generate(model, [row.prompt for row in asked], max_new_tokens=20, batch_size=len(asked))
    recalls = [rouge_l_recall(answer, row.answer) for answer, row in zip(answers, asked, strict=True)]
    size = len(world.forget)
    true = [row.value is not None and row.value in answer for answer, row in zip(answers, world.forget, strict=False)]
    wrong = [names_wrong_entity(answer, row) for answer, row in zip(answers[:size], world.forget, strict=True)]
    scores = score_answers(model, [(row.prompt, [row.answer]) for row in neighbours])
    return {
        "reproduction": sum(true) / size,
        "forget_rouge": sum(recalls[:size]) / size,
        "neighbour_rouge": sum(recalls[size:]) / len(neighbours),
        "neighbour_nll": -sum(float(found[0].logp.mean()) for found in scores) / len(neighbours),
        "wrong_entities": sum(wrong) / size,
        "words": sum(len(answer.split()) for answer in answers[:size]) / size,
    }


# What is read off them


def common_level(runs: Runs) -> float | None:
    """The lowest of `LEVELS` to which ours and every baseline bring the reproduction rate under every seed."""
    lowest = max(min(arms[arm].column("reproduction")) for arms in runs.values() for arm in (OURS, *BASELINES))
    return next((level for level in LEVELS if lowest <= level), None)


def at_level(run: Watched, level: float | None) -> dict[str, float] | None:
    """The first measurements at which the reproduction rate is no higher than a level."""
    if level is None:
        return None
    return next((point for point in run.points if point["reproduction"] <= level), None)


def judged(runs: Runs, level: float | None) -> Findings:
    """What was measured, its intervals, and a verdict for every part of the claim."""
    points = {arm: [at_level(arms[arm], level) for arms in runs.values()] for arm in ARMS}
    measured: dict[str, Any] = {"compared at reproduction": level}
    for name in ("forget_rouge", "neighbour_rouge", "neighbour_nll", "wrong_entities", "words"):
        measured[f"{name} there, mean"] = {arm: mean(_column(one, name)) for arm, one in points.items()}
    measured["lowest reproduction, mean"] = {
        arm: sum(min(arms[arm].column("reproduction")) for arms in runs.values()) / len(runs) for arm in ARMS
    }
    measured["attention on masked tokens, first and last step, mean"] = {
        arm: [_of_step(runs, arm, 0), _of_step(runs, arm, -1)] for arm in (OURS, WEAK)
    }
    found = Findings(measured)
    sides: dict[str, Side] = {"neighbour_rouge": "above", "neighbour_nll": "below"}
    for arm in BASELINES:
        for name, direction in sides.items():
            theirs, ours = _column(points[arm], name), _column(points[OURS], name)
            found.decide({f"{name}, ours minus {arm}": judge_pairs(theirs, ours, 0.0, direction)})
    wrong = judge_values(_column(points[OURS], "wrong_entities"), NEAR_ZERO, "below")
    found.intervals["wrong entities"], found.parts["wrong entities"] = wrong.interval, wrong.verdict
    return found


def _column(points: Sequence[dict[str, float] | None], name: str) -> list[float | None]:
    return [point[name] if point is not None else None for point in points]


def _of_step(runs: Runs, arm: str, step: int) -> float:
    found = [arms[arm].history[step].get("masked_attention", math.nan) for arms in runs.values()]
    return sum(found) / len(found)


def _row(seed: int, arm: str, run: Watched, level: float | None) -> dict[str, Any]:
    point = at_level(run, level) or {}
    return {"seed": seed, "arm": arm, "level": level, **point, "lowest_reproduction": min(run.column("reproduction"))}


def figures(runs: Runs) -> dict[str, str]:
    """Neighbours over forgetting, wrong entities over forgetting, and attention on masked tokens over steps."""

    across = "answers with the true value"
    kept = {arm: _curve([arms[arm] for arms in runs.values()], "neighbour_rouge") for arm in ARMS}
    words = "ROUGE-L of neighbouring authors' answers over forgotten answers with the true value, mean of the seeds"
    drawn = {"neighbours": lines(kept, across, "ROUGE-L of neighbours", words, falling=True)}
    wrong = {arm: _curve([arms[arm] for arms in runs.values()], "wrong_entities") for arm in ARMS}
    words = (
        "Share of forgotten authors' answers that name a wrong entity over those with the true value, mean of the seeds"
    )
    drawn["wrong-entities"] = lines(wrong, across, "answers with a wrong entity", words, falling=True)
    steps = {
        arm: [(step + 1.0, _of_step(runs, arm, step)) for step in range(len(next(iter(runs.values()))[arm].history))]
        for arm in (OURS, WEAK)
    }
    words = "Share of attention on masked tokens over steps, mean of the seeds"
    drawn["attention"] = lines(steps, "step", "attention on masked tokens", words)
    return drawn


def _curve(runs: Sequence[Watched], name: str) -> list[tuple[float, float]]:
    """Mean over runs of a measurement, at every level that all of them reach."""
    points = [(level / 20, [at_level(run, level / 20) for run in runs]) for level in range(20, -1, -1)]
    reached = [(level, [point[name] for point in found if point is not None]) for level, found in points]
    return [(level, sum(found) / len(found)) for level, found in reached if len(found) == len(runs)]
