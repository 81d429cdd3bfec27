"""Wisdom is Knowing What not to Say: Hallucination-Free LLMs Unlearning via Attention Shifting.

arXiv 2510.17210, 2025-10; NeurIPS 2025.

Measured here, on TOFU-mini: every method trains the same low-rank adapters on queries and keys with as many retain
rows as forget rows, and is read off where the share of answers about forgotten authors that still give the true value
(the paper's reproduction rate) first falls to a level that all of them reach. There: ROUGE-L and perplexity of
neighbouring authors whom no method was shown, and how often an answer about a forgotten author names
another entity of the asked type. The world is invented and its entities are known, so both shares need no judge.

Fast: a model that has seen no other sentences. Full: SmolLM2, which learned the same authors first.

The paper stops at a ROUGE-L of 0.2. A trial under another seed than those of the claim showed that attention shifting
leaves the sentences around the values as they are in a model that has seen no other sentences, so that ROUGE-L stays
at 0.8 or so; the level is therefore one of reproduction, and rates and steps were chosen there. Full scale in the
paper: TOFU on Llama-2-7B, extraction from GPT-Neo, PubMedQA on LLaMA-13B, with a language model as the judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations, product
from typing import Any

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.scoring.generation import generate
from letheon.core.scoring.overlap import rouge_l_recall
from letheon.forget.request import Request
from letheon.papers.common import words
from letheon.papers.common.tofu_mini import World, make_world, new_model, taught, train
from letheon.papers.kit.arms import Arms, Taught, Trajectory
from letheon.papers.kit.figures import lines, mean_course
from letheon.papers.kit.findings import Findings, mean
from letheon.papers.kit.levels import EqualForgetting, Runs, at_equal_forgetting
from letheon.papers.outcome import Scale

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
EVERY = 4  # steps between two measurements
# "Near 0": the paper reports 0 plainly and 0.05 to 0.07 under attack.
NEAR_ZERO = 0.1
PRIMARY = (
    *(f"{name}, ours minus {arm}" for arm in BASELINES for name in ("neighbour_rouge", "neighbour_nll")),
    "wrong entities",
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: about a minute per seed; at full scale an hour."""
    found.baselines += [*BASELINES, "attention shifting with lambda 0.2"]
    kept = compared({seed: forgetting_runs(seed, scale) for seed in scale.seeds})
    judge(found, kept)
    found.figures |= figures(kept)
    found.rows += [_row(seed, arm, run, kept) for seed, arms in kept.runs.items() for arm, run in arms.items()]


# The exact judge


def universe(form: str) -> list[str]:
    """Every value that an attribute can have in TOFU-mini."""
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


def forgetting_runs(seed: int, scale: Scale) -> dict[str, Trajectory]:
    """Every arm from the same trained model, with the same adapters, rows and steps."""
    full = scale.name == "full"
    world = make_world(seed, authors=12, forgotten=2)
    rows = [*world.forget, *world.retain]
    if full:
        model = taught(rows, seed, scale.model, scale.device)
    else:
        model = new_model(world, seed, width=64)
        model.model.to(scale.device)
        train(model, rows, seed, epochs=120)
    size = len(world.forget)
    request = Request(forget=world.forget, retain=world.retain[:size])
    neighbours = world.retain[size:][: 2 * size]
    rates = {arm: FULL_RATE if full else fast_rate for arm, (_, fast_rate) in ARMS.items()}
    recipes = {arm: f"{method}@{ADAPTERS}" for arm, (method, _) in ARMS.items()}
    arms = Arms(recipes, FULL_RATE, steps=72, batch_size=size, every=EVERY, rates=rates)
    return arms.run(Taught(model, request, lambda now: measure(now, world, neighbours)), seed)


def measure(model: LanguageModel, world: World, neighbours: Sequence[Example]) -> dict[str, float]:
    """True values and wrong entities in answers about forgotten authors, and how well neighbours are still known.

    ROUGE-L is recall; `neighbour_nll` is log perplexity, in nats per token.
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


# The verdict


def compared(runs: Runs) -> EqualForgetting:
    """The runs where they first reach the lowest reproduction rate that ours and every baseline reach."""
    compare = (OURS, *BASELINES)
    return at_equal_forgetting(runs, compare, keep="neighbour_rouge", by="reproduction", interpolate=False)


def judge(found: Findings, kept: EqualForgetting) -> None:
    """Measured values, intervals, and a verdict for each of the seven parts."""
    runs = kept.runs.values()
    found.measured["compared at reproduction"] = kept.level
    for name in ("forget_rouge", "neighbour_rouge", "neighbour_nll", "wrong_entities", "words"):
        found.measured[f"{name} there, mean"] = kept.means(name, arms=ARMS)
    lowest = {arm: mean(min(arms[arm].column("reproduction")) for arms in runs) for arm in ARMS}
    found.measured["lowest reproduction, mean"] = lowest
    masked = {arm: attention_on_masked(kept.runs, arm) for arm in (OURS, WEAK)}
    found.measured["attention on masked tokens, first and last step, mean"] = {
        arm: [course[0][1], course[-1][1]] for arm, course in masked.items()
    }
    for arm in BASELINES:
        found.decide(f"neighbour_rouge, ours minus {arm}", kept.pairs(arm, OURS), above=0.0)
        found.decide(f"neighbour_nll, ours minus {arm}", kept.pairs(arm, OURS, "neighbour_nll"), below=0.0)
    found.decide("wrong entities", kept.values(OURS, "wrong_entities"), below=NEAR_ZERO, value=False)


def attention_on_masked(runs: Runs, arm: str) -> list[tuple[float, float]]:
    """(step, share of attention on masked tokens), mean of the seeds."""
    histories = [arms[arm].history for arms in runs.values()]
    return mean_course([[metrics.get("masked_attention", math.nan) for metrics in each] for each in histories])


def _row(seed: int, arm: str, run: Trajectory, kept: EqualForgetting) -> dict[str, Any]:
    level = kept.level
    reached = (point for point in run.points if level is not None and point["reproduction"] <= level)
    lowest = min(run.column("reproduction"))
    return {"seed": seed, "arm": arm, "level": level, **next(reached, {}), "lowest_reproduction": lowest}


def figures(kept: EqualForgetting) -> dict[str, str]:
    """Neighbours over forgetting, wrong entities over forgetting, and attention on masked tokens over steps."""
    across, grid = "answers with the true value", [level / 20 for level in range(20, -1, -1)]
    up, name = "answers with a wrong entity", "wrong_entities"
    near = "ROUGE-L of neighbouring authors' answers over forgotten answers with the true value, mean of the seeds"
    wrong = (
        "Answers about forgotten authors that name a wrong entity, over those with the true value, mean of the seeds"
    )
    masked = {arm: attention_on_masked(kept.runs, arm) for arm in (OURS, WEAK)}
    words = "Share of attention on masked tokens over steps, mean of the seeds"
    return {
        "neighbours": kept.figure(across, "ROUGE-L of neighbours", near, arms=ARMS, grid=grid),
        "wrong-entities": kept.figure(across, up, wrong, keep=name, arms=ARMS, grid=grid),
        "attention": lines(masked, "step", "attention on masked tokens", words),
    }
