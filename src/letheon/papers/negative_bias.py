"""A Multifaceted Analysis of Negative Bias in Large Language Models through the Lens of Parametric Knowledge.

arXiv 2511.10881, 2025-11. Full scale in the paper: 7B to 8B instruct models on short-answer questions. Here: SmolLM2 on
true and false statements, dealt out so that every seed asks about things of its own. What the model knows is judged by
its own open answers about capitals. The statements of which it can know nothing are the same ones with the country's
name replaced by an invented one, so that form, cities and answers are alike.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from letheon.core.model.models import LanguageModel, load
from letheon.core.rows.sampling import stream_seed
from letheon.papers.common.known_facts import TOPICS, dealt_out, parts_of_topics
from letheon.papers.kit.findings import Findings, Threshold, mean
from letheon.papers.kit.results import Results
from letheon.papers.outcome import Scale
from letheon.probe.negative_bias.prompts import Format, answers_to
from letheon.probe.negative_bias.report import Ablation, BiasSettings, ablate, knowledge_subsets
from letheon.probe.negative_bias.scores import soft_bias
from letheon.probe.statements import BEGIN, END, MIDDLE, Statement

# The parts that decide, named before any run.
PRIMARY = (
    "bias on invented countries minus bias on countries whose capital the model knows",
    "move of the bias down without the negative heads",
    "half of that move minus the mean move without random heads",
)
BESIDE = ("bias on known capitals", "share of capitals that are known", "bias on capitals that are not known")
SAMPLES = {"fast": 5, "full": 10}  # open answers per capital
DRAWS = {"fast": 8, "full": 20}  # random sets of heads


def reproduce(scale: Scale, found: Findings) -> None:
    """Measure the bias where knowledge is missing and where it is not, and ablate the negative heads."""
    found.baselines += ["the same statements about what is known", "random sets of as many heads"]
    model = load(scale.model, device=scale.device)
    count = len(scale.seeds)
    parts = zip(scale.seeds, dealt_out(TOPICS["capitals"], count), parts_of_topics(count), strict=True)
    rows = [
        measured(model, seed, capitals, topics, SAMPLES[scale.name], DRAWS[scale.name])
        for seed, capitals, topics in parts
    ]
    results = Results({"bias": rows})
    results.record(found)
    results.judge(found, "bias", dict.fromkeys(PRIMARY, Threshold(above=0.0)), BESIDE)


def measured(
    model: LanguageModel,
    seed: int,
    capitals: Mapping[str, str],
    topics: Mapping[str, Sequence[Statement]],
    samples: int,
    draws: int,
) -> dict[str, Any]:
    """Measure the facts of one seed.

    Args:
        capitals: country -> capital, of which the model is asked openly what it knows.
        topics: statements of every topic, on which heads are chosen and removed.
    """
    subsets = knowledge_subsets(model, samples, seed, capitals)
    known = subsets.get("correct", [])
    unknown = [one for kind, rows in subsets.items() if kind != "correct" for one in rows]
    everything = [one for rows in topics.values() for one in rows]
    mixed = random.Random(stream_seed(seed, "statements")).sample(everything, len(everything))
    settings = BiasSettings(items=len(mixed), draws=draws, seed=seed)
    ablation = ablate(model, mixed, answers_to(model, mixed, Format(), attention=True), settings)
    bias = {name: bias_on(model, rows) for name, rows in (("known", known), ("unknown", unknown))}
    nothing = bias_on(model, with_invented_names(known, seed))
    gap = None if nothing is None or bias["known"] is None else nothing - bias["known"]
    values = (bias["known"], len(known) / (2 * len(capitals)), bias["unknown"])
    return {"seed": seed, PRIMARY[0]: gap, **moves(ablation), **dict(zip(BESIDE, values, strict=True))}


def bias_on(model: LanguageModel, statements: Sequence[Statement]) -> float | None:
    """Return the mean soft bias; none without statements."""
    answers = answers_to(model, statements, Format()) if statements else None
    return mean(soft_bias(answers.yes, answers.no).tolist()) if answers else None


def with_invented_names(statements: Sequence[Statement], seed: int) -> list[Statement]:
    """Replace every country by an invented name, which its statements share; the labels mean nothing any more."""
    draw = random.Random(stream_seed(seed, "invented names"))
    names = [a + b + c for a in BEGIN for b in MIDDLE for c in END]
    groups = list(dict.fromkeys(one.group for one in statements))
    invented = dict(zip(groups, draw.sample(names, len(groups)), strict=True))
    return [
        replace(one, text=one.text.replace(one.group, invented[one.group]), group=invented[one.group])
        for one in statements
    ]


def moves(ablation: Ablation | None) -> dict[str, float | None]:
    """The deciding values of an ablation; none where no head is negative for both right answers."""
    if ablation is None:
        return dict.fromkeys(PRIMARY[1:])
    move = ablation.plain - ablation.without
    random_moves = [abs(ablation.plain - one) for one in ablation.random]
    return {PRIMARY[1]: move, PRIMARY[2]: move / 2 - sum(random_moves) / len(random_moves)}
