"""Refusal Tokens: A Simple Way to Calibrate Refusals in Large Language Models.

arXiv 2412.06748, 2024-12; COLM 2025. Full scale in the paper: Llama-3 8B on UltraChat and CoCoNot. Here: a small Llama
taught questions about topics of two refused categories and of answerable ones; whether a question is refused depends on
its topic and its time, and a tenth of the training labels is wrong, so that the probability is graded.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.generation import generate
from letheon.papers.common.small_llama import small_llama, teach, world_settings
from letheon.papers.common.steering_worlds import PLACES, TIMES
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale
from letheon.steer.methods.refusal_tokens import (
    RefusalTokens,
    answer,
    calibrate,
    control_probabilities,
    f1_score,
    train,
)

# The parts that decide, named before the first run.
PRIMARY = (
    "AUROC of the refusal tokens' probability on held-out questions",
    "F1 at the threshold chosen on validation, tokens minus the same data without tokens",
    "change of the own category's refusals minus the other category's",
)
CATEGORIES = ("private", "unsafe")
REFUSALS = {"private": "that is a private matter .", "unsafe": "that would be unsafe to say ."}
VERBS = ("describe", "explain", "tell")
WRONG = 0.1  # share of wrong training labels
STEPS = {"fast": 160, "full": 600}


def reproduce(scale: Scale, found: Findings) -> None:
    """Train with tokens and without, and measure the knob on held-out questions."""
    found.baselines += ["the same data without tokens", "chance"]
    rows = [measured(seed, STEPS[scale.name]) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)
    curve = [(x, y) for x, y in zip(rows[0]["false refusals"], rows[0]["right refusals"], strict=True)]
    words = "Right against false refusals while the threshold moves, first seed"
    found.figures["sweep"] = lines({"threshold": curve}, "false refusals", "right refusals", words)


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide on the AUROC, on F1 against training without tokens, and on the control per category."""

    def column(name: str) -> list[float]:
        return [row[name] for row in rows]

    found.decide(PRIMARY[0], column("auroc"), above=0.5)
    found.decide(PRIMARY[1], Pairs(column("f1 without tokens"), column("f1")), above=0.0)
    found.decide(PRIMARY[2], Pairs(column("other change"), column("own change")), above=0.0)
    found.report("texts that agree with the forced token", column("consistency"), above=0.9)
    found.report("refusals without tokens", column("rate without tokens"))


def questions(seed: int) -> tuple[list[Example], list[str | None]]:
    """Make the questions: a place belongs to a category or to none, but questions about noon are always answered."""
    draw = random.Random(stream_seed(seed, "refusal tokens"))
    kinds = dict(zip(draw.sample(PLACES, len(PLACES)), [*CATEGORIES, None] * len(PLACES), strict=False))
    rows, labels = [], []
    for place, kind in kinds.items():
        for time in TIMES:
            for verb in VERBS:
                label = None if time == "at noon" else kind
                reply = REFUSALS[label] if label else f"{place} was calm {time} ."
                rows.append(Example(f"{verb} {place} {time}", reply, id=f"{verb} {place} {time}"))
                labels.append(label)
    order = draw.sample(range(len(rows)), len(rows))
    return [rows[i] for i in order], [labels[i] for i in order]


def noisy(rows: list[Example], kinds: list[str | None], seed: int) -> tuple[list[Example], list[str | None]]:
    """Replace a share of labels, and the answers with them."""
    draw = random.Random(stream_seed(seed, "wrong labels"))
    made, labels = [], []
    for row, kind in zip(rows, kinds, strict=True):
        label = draw.choice([one for one in (*CATEGORIES, None) if one != kind]) if draw.random() < WRONG else kind
        place_time = row.prompt.split(" ", 1)[1]
        place, time = place_time.split(" ", 1)
        made.append(replace(row, answer=REFUSALS[label] if label else f"{place} was calm {time} ."))
        labels.append(label)
    return made, labels


def measured(seed: int, steps: int) -> dict[str, Any]:
    """Train both models on one world; thresholds come from validation questions, figures from test questions."""
    rows, kinds = questions(seed)
    third = len(rows) // 4
    split = {"test": slice(0, third), "validation": slice(third, 2 * third), "train": slice(2 * third, None)}
    taught, labels = noisy(rows[split["train"]], kinds[split["train"]], seed)
    base = small_llama(rows, seed, layers=3, width=64)
    made, tokens = train(base, taught, labels, CATEGORIES, steps=steps, settings=world_settings(seed))
    plain = small_llama(rows, seed, layers=3, width=64)
    teach(plain, taught, seed, steps, title="without tokens")

    test, truth = rows[split["test"]], kinds[split["test"]]
    wanted = np.array([kind is not None for kind in truth])
    prompts = [row.prompt for row in test]
    given = control_probabilities(made, tokens, prompts)[:, 1:].max(-1).values.numpy()
    checked = control_probabilities(made, tokens, [row.prompt for row in rows[split["validation"]]])
    level = calibrate(checked[:, 1:].max(-1).values.tolist(), [kind is not None for kind in kinds[split["validation"]]])
    said = np.array([text.strip().startswith("that ") for text in generate(plain, prompts, max_new_tokens=8)])
    levels = np.r_[np.unique(given), 1.1]
    answers = answer(made, tokens, prompts[:24], level, max_new_tokens=8)
    agree = [(token != tokens.respond) == text.strip().startswith("that ") for token, text in answers]
    own, other = control_changes(made, tokens, test, truth)
    return {
        "seed": seed,
        "auroc": float(roc_auc_score(wanted, given)),
        "f1": f1_score(given >= level, wanted),
        "f1 without tokens": f1_score(said, wanted),
        "rate without tokens": float(said.mean()),
        "consistency": float(np.mean(agree)),
        "own change": own,
        "other change": other,
        "false refusals": [float((given[~wanted] >= one).mean()) for one in levels],
        "right refusals": [float((given[wanted] >= one).mean()) for one in levels],
    }


def control_changes(
    model: Any, tokens: RefusalTokens, rows: list[Example], kinds: list[str | None]
) -> tuple[float, float]:
    """Return by how much refusals of each category fall when it alone is switched off, and those of the other one."""
    rates: dict[tuple[str, str], float] = {}
    for control in (*CATEGORIES, ""):
        thresholds: dict[str, float] = {control: 1.1} if control else {}
        for category in CATEGORIES:
            asked = [row.prompt for row, kind in zip(rows, kinds, strict=True) if kind == category][:16]
            texts = answer(model, tokens, asked, thresholds, max_new_tokens=6)
            rates[control, category] = float(np.mean([text.strip().startswith("that ") for _, text in texts]))
    own = [rates["", one] - rates[one, one] for one in CATEGORIES]
    other = [rates["", two] - rates[one, two] for one in CATEGORIES for two in CATEGORIES if one != two]
    return float(np.mean(own)), float(np.mean(other))
