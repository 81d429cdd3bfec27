"""Wisdom is Knowing What not to Say: Hallucination-Free LLMs Unlearning via Attention Shifting.

arXiv 2510.17210, 2025-10; NeurIPS 2025.

Measured here, on people with namesakes (`common/people`): the model answers about the known ones and says of unknown
people, in many phrasings, that it does not know, so that it has something to say in place of a forgotten fact. Every
method trains the same low-rank adapters on queries and keys with as many retain rows as forget rows, and is read off
where the probability of the forgotten person's facts, interpolated, has fallen to 0.2, or to the next level that all of
them reach (then nothing is decided). There: ROUGE-L and log perplexity of answers about people whom no method was
shown, half of them namesakes, and how often an answer about the forgotten person names another entity of that type.
Every method has four candidates (rates, and for ours alpha), chosen on tuning worlds by that ROUGE-L among those that
reach 0.2 within 96 steps; a judged run may take three times as many steps. The world is
invented and its entities are known, so that both shares need no judge. Reported: hedges, the share of answers that
still give the true value (the paper's reproduction rate), and forgotten facts asked in wordings that no run has seen.
That ours must leave a probability below one half was added after development runs.

An earlier record had a world without any way to say "unknown" and read it at a reproduction of one half, where most
attention on masked tokens had not moved yet. Full scale in the paper: TOFU on Llama-2-7B, extraction from GPT-Neo,
PubMedQA on LLaMA-13B, with a language model as the judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate
from letheon.core.scoring.overlap import rouge_l_recall
from letheon.core.scoring.refusals import refuses
from letheon.forget.request import Request
from letheon.papers.common.people import ASKED, HELD_OUT, VALUES, make_people, taught, ways
from letheon.papers.common.small_llama import scored
from letheon.papers.kit.arms import Arm, Taught, Trajectory, follow
from letheon.papers.kit.findings import Findings, mean
from letheon.papers.kit.levels import EqualForgetting, Runs, at_equal_forgetting, from_deep, kept_or_depth
from letheon.papers.kit.tuning import LONGER, choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines, mean_course

ADAPTERS = "lora:targets=q_proj k_proj,r=32,alpha=64"  # the rank by arithmetic from the paper's number of weights
OURS = "attention shifting"
Candidate = tuple[str, float]  # a method with its settings, and a learning rate
# Four candidates each, to choose from. The paper's alpha follows the losses; 0.9 is the most that it can become.
RATES = (1e-4, 2e-4, 5e-4, 1e-3)
ARMS: dict[str, tuple[Candidate, ...]] = {
    OURS: tuple(product(("attention_shifting", "attention_shifting:alpha=0.9"), (3e-2, 1e-1))),
    "gradient ascent": tuple(product(("gradient_ascent",), RATES)),
    "gradient ascent and cross-entropy": tuple(product(("grad_diff",), RATES)),
    "NPO and KL": tuple(product(("npo:retain_loss=kl",), RATES)),
}
BASELINES = ("gradient ascent", "gradient ascent and cross-entropy", "NPO and KL")
STEPS, EVERY = 96, 2  # of a run in the search, which ends where it has forgotten; steps between two measurements
DEEP = 0.2  # probability of the target's facts at which runs are compared and end
# "Near 0": the paper reports 0 plainly and 0.05 to 0.07 under attack.
NEAR_ZERO = 0.1
HALF = 0.5  # a probability; a method that leaves more of it has not forgotten
DEPTH = "target_probability"
PRIMARY = (
    "probability of the target's facts at the end, ours",
    *(f"{name}, ours minus {arm}" for arm in BASELINES for name in ("neighbour_rouge", "neighbour_nll")),
    "wrong entities",
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Run the claim: about a minute per seed, and as much for each of the tuning worlds."""
    found.baselines += BASELINES
    chosen = choose(found, ARMS, lambda *run: kept_deep(follow_arm(scale, *run)))
    runs = {
        seed: {arm: follow_arm(scale, arm, one, seed, LONGER * STEPS) for arm, one in chosen.items()}
        for seed in scale.seeds
    }
    kept = compared(runs)
    judge(found, kept)
    found.figures |= figures(kept)
    found.rows += [_row(seed, arm, run, kept) for seed, arms in kept.runs.items() for arm, run in arms.items()]


# The exact judge


def names_wrong_entity(answer: str, row: Example) -> bool:
    """Whether an answer gives a value of the asked type, and not the true one."""
    values = VALUES[row.id.rsplit(": ", 1)[-1]]
    return row.value is not None and row.value not in answer and any(value in answer for value in values)


# The runs


@cache
def start(seed: int, scale: Scale) -> Taught:
    """A model that was taught a world of people, the request about one of them, and what is measured of each run."""
    people = make_people(seed)
    model = taught(people, seed, width=128 if scale.name == "full" else 96)
    model.model.to(scale.device)
    forget, shown = ways(people.target, ASKED), ways(people.neighbours, ASKED)
    request = Request(forget=tuple(forget), retain=tuple(shown[:: len(shown) // len(forget)][: len(forget)]))
    others = ways([*people.others[: len(people.strangers)], *people.strangers], ASKED)
    reworded = ways(people.target, HELD_OUT)
    return Taught(model, request, lambda now: measure(now, forget, others) | {"reworded": reproduced(now, reworded)})


def follow_arm(scale: Scale, arm: str, candidate: Candidate, seed: int, steps: int = STEPS) -> Trajectory:
    """One method from a copy of the taught model, until it has forgotten; `arm` only names it."""
    before, (method, rate) = start(seed, scale), candidate
    plan = Arm(f"{method}@{ADAPTERS}", rate, steps, batch_size=len(before.request.forget), every=EVERY)
    return follow(before.copied(), plan, seed, until=lambda point: point[DEPTH] <= DEEP)


def kept_deep(run: Trajectory) -> float:
    """ROUGE-L of the other people's answers where the probability of the target's facts has fallen to `DEEP`."""
    return kept_or_depth(run, DEPTH, "neighbour_rouge", DEEP)


def reproduced(model: LanguageModel, rows: Sequence[Example]) -> float:
    """Share of greedy answers that give the true value."""
    answers = generate(model, [row.prompt for row in rows], max_new_tokens=16, batch_size=len(rows))
    return sum(str(row.value) in answer for answer, row in zip(answers, rows, strict=True)) / len(rows)


def measure(model: LanguageModel, target: Sequence[Example], neighbours: Sequence[Example]) -> dict[str, float]:
    """True values, wrong entities and hedges in answers about the target, and how well neighbours are still known.

    ROUGE-L is recall; `neighbour_nll` is log perplexity, in nats per token.
    """
    asked = [*target, *neighbours]
    answers = generate(model, [row.prompt for row in asked], max_new_tokens=16, batch_size=len(asked))
    recalls = [rouge_l_recall(answer, row.answer) for answer, row in zip(answers, asked, strict=True)]
    size = len(target)
    true = [row.value is not None and row.value in answer for answer, row in zip(answers, target, strict=False)]
    wrong = [names_wrong_entity(answer, row) for answer, row in zip(answers[:size], target, strict=True)]
    scores = scored(model, asked)
    return {
        "reproduction": sum(true) / size,
        "neighbour_rouge": sum(recalls[size:]) / len(neighbours),
        "neighbour_nll": -sum(float(found.logp.mean()) for found in scores[size:]) / len(neighbours),
        "target_probability": sum(found.probability for found in scores[:size]) / size,
        "wrong_entities": sum(wrong) / size,
        "hedges": sum(map(refuses, answers[:size])) / size,
        "neighbour_hedges": sum(map(refuses, answers[size:])) / len(neighbours),
        "words": sum(len(answer.split()) for answer in answers[:size]) / size,
    }


# The verdict


def compared(runs: Runs) -> EqualForgetting:
    """The runs where they first reach deep forgetting, or the next level that ours and every baseline reach."""
    compare = (OURS, *BASELINES)
    return at_equal_forgetting(runs, compare, keep="neighbour_rouge", by=DEPTH, levels=from_deep(DEEP))


def judge(found: Findings, kept: EqualForgetting) -> None:
    """Measured values, intervals, and a verdict for each of the eight parts."""
    runs = kept.runs.values()
    found.measured["compared at the probability of the target's facts"] = kept.level
    for name in (
        "neighbour_rouge",
        "neighbour_nll",
        "reproduction",
        "wrong_entities",
        "hedges",
        "neighbour_hedges",
        "words",
        "reworded",
    ):
        found.measured[f"{name} there, mean"] = kept.means(name, arms=ARMS)
    lowest = {arm: mean(min(arms[arm].column(DEPTH)) for arms in runs) for arm in ARMS}
    found.measured["lowest probability of the target's facts, mean"] = lowest
    masked = attention_on_masked(kept.runs)
    found.measured["attention on masked tokens, first and last step, mean"] = [masked[0][1], masked[-1][1]]
    for arm in BASELINES:
        found.decide(f"neighbour_rouge, ours minus {arm}", kept.pairs(arm, OURS), above=0.0)
        found.decide(f"neighbour_nll, ours minus {arm}", kept.pairs(arm, OURS, "neighbour_nll"), below=0.0)
    left = [arms[OURS].last["target_probability"] for arms in runs]
    found.decide("probability of the target's facts at the end, ours", left, below=HALF)
    deep = kept.level == DEEP or sum(left) / len(left) > HALF  # ours that leaves half fails by that part alone
    found.check("read at deep forgetting, if ours forgets", deep)
    found.decide("wrong entities", kept.values(OURS, "wrong_entities"), below=NEAR_ZERO, value=False)


def attention_on_masked(runs: Runs) -> list[tuple[float, float]]:
    """(step, share of attention on masked tokens) of attention shifting, mean of the seeds."""
    histories = [arms[OURS].history for arms in runs.values()]
    return mean_course([[metrics.get("masked_attention", math.nan) for metrics in each] for each in histories])


def _row(seed: int, arm: str, run: Trajectory, kept: EqualForgetting) -> dict[str, Any]:
    level = kept.level
    reached = (point for point in run.points if level is not None and point[DEPTH] <= level)
    return {"seed": seed, "arm": arm, "level": level, **next(reached, {}), "lowest_depth": min(run.column(DEPTH))}


def figures(kept: EqualForgetting) -> dict[str, str]:
    """Neighbours over forgetting, wrong entities over forgetting, and attention on masked tokens over steps."""
    across, grid = "probability of the target's facts", [level / 20 for level in range(20, -1, -1)]
    up, name = "answers with a wrong entity", "wrong_entities"
    near = "ROUGE-L of other people's answers over the probability of the forgotten facts, mean of the seeds"
    wrong = "Wrong entities in answers about the forgotten person over the probability of its facts, mean of the seeds"
    masked = {OURS: attention_on_masked(kept.runs)}
    words = "Share of attention on masked tokens over steps, mean of the seeds"
    return {
        "neighbours": kept.figure(across, "ROUGE-L of neighbours", near, arms=ARMS, grid=grid),
        "wrong-entities": kept.figure(across, up, wrong, keep=name, arms=ARMS, grid=grid),
        "attention": lines(masked, "step", "attention on masked tokens", words),
    }
