"""Refusal Tokens: A Simple Way to Calibrate Refusals in Large Language Models.

arXiv 2412.06748, 2024-12; COLM 2025. Full scale in the paper: Llama-3 8B on UltraChat and CoCoNot. Here: a small Llama
taught questions about topics of two categories; each topic has its own chance that a question about it is refused, so
that the probability is graded. The learning rates of both models are chosen on seeds that are not judged.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.generation import generate
from letheon.papers.common.small_llama import small_llama, teach, world_settings
from letheon.papers.common.steering_worlds import PLACES, TIMES
from letheon.papers.kit.findings import Columns, Findings
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines
from letheon.steer.curve import next_token_logits
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
WELL_ABOVE = 0.7  # AUROC; the chances of refusals themselves would reach 0.9
RATES = (1e-3, 3e-3, 9e-3)
CATEGORIES = ("private", "unsafe")
REFUSALS = {"private": "that is a private matter .", "unsafe": "that would be unsafe to say ."}
VERBS = ("describe", "explain", "tell")
RISKS = (0.05, 0.35, 0.65, 0.95)  # of a refusal, by place: nothing tells more of a question, so that no knob is perfect
STEPS = {"fast": 160, "full": 600}


def reproduce(scale: Scale, found: Findings) -> None:
    """Train with tokens and without, and measure the knob on held-out questions."""
    found.baselines += ["the same data without tokens", "its first word's probability as a knob", "a random token"]
    steps = STEPS[scale.name]

    def score(arm: str, rate: float, seed: int) -> float:
        world = split_world(seed)
        if arm == "tokens":
            return with_tokens(world, seed, steps, rate)["f1"]
        return without_tokens(world, seed, steps, rate)["f1 without tokens"]

    rates = choose(found, {"tokens": RATES, "without tokens": RATES}, score)
    rows = [measured(seed, steps, rates) for seed in scale.seeds]
    found.rows += rows
    judge(rows, found)
    curve = [(x, y) for x, y in zip(rows[0]["false refusals"], rows[0]["right refusals"], strict=True)]
    words = "Right against false refusals while the threshold moves, first seed"
    found.figures["sweep"] = lines({"threshold": curve}, "false refusals", "right refusals", words)


def judge(rows: list[dict[str, Any]], found: Findings) -> None:
    """Decide on the AUROC, on F1 against training without tokens, and on the control per category."""
    column = Columns(rows)
    found.decide(PRIMARY[0], column("auroc"), above=WELL_ABOVE)
    found.decide(PRIMARY[1], column.pairs("f1", "f1 without tokens"), above=0.0)
    found.decide(PRIMARY[2], column.pairs("own change", "other change"), above=0.0)
    words = column.pairs("f1", "f1 word")
    found.report("F1, tokens minus the first word's probability as a knob", words, above=0.0)
    plain = column.pairs("f1 compared", "f1 without tokens")
    found.report("F1 without a threshold (the likelier token), tokens minus without tokens", plain, above=0.0)
    found.report("AUROC of a random token's probability", column("auroc, random token"))
    found.report("texts that agree with the forced token", column("consistency"), above=0.9)
    found.report("refusals without tokens", column("rate without tokens"))


def questions(seed: int) -> tuple[list[Example], list[str | None]]:
    """Make the questions: a place has a category and a risk; questions about noon are always answered."""
    draw = random.Random(stream_seed(seed, "refusal tokens"))
    risks = [(kind, risk) for kind in CATEGORIES for risk in RISKS]
    places = dict(zip(draw.sample(PLACES, len(PLACES)), risks * len(PLACES), strict=False))
    rows, labels = [], []
    for place, (kind, risk) in places.items():
        for time in TIMES:
            for verb in VERBS:
                label = kind if draw.random() < risk and time != "at noon" else None
                reply = REFUSALS[label] if label else f"{place} was calm {time} ."
                rows.append(Example(f"{verb} {place} {time}", reply, id=f"{verb} {place} {time}"))
                labels.append(label)
    order = draw.sample(range(len(rows)), len(rows))
    return [rows[i] for i in order], [labels[i] for i in order]


@dataclass(frozen=True)
class Split:
    """Questions of one world with their labels: to train on, to choose on, to test on.

    Attributes:
        every: all questions.
        train, validation, test: questions and the categories of their refusals, None for an answer.
    """

    every: list[Example]
    train: tuple[list[Example], list[str | None]]
    validation: tuple[list[Example], list[str | None]]
    test: tuple[list[Example], list[str | None]]

    def wanted(self, part: str) -> np.ndarray:
        """Return which questions of a part should be refused."""
        return np.array([kind is not None for kind in getattr(self, part)[1]])

    def prompts(self, part: str) -> list[str]:
        """Return the questions of a part."""
        return [row.prompt for row in getattr(self, part)[0]]


def split_world(seed: int) -> Split:
    """Draw a world: half of its questions to train on, a quarter to choose thresholds on, a quarter to test on."""
    rows, kinds = questions(seed)
    quarter = len(rows) // 4
    test, validation = ((rows[i : i + quarter], kinds[i : i + quarter]) for i in (0, quarter))
    return Split(rows, (rows[2 * quarter :], kinds[2 * quarter :]), validation, test)


def measured(seed: int, steps: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """Train both models on one world; thresholds come from validation questions, figures from test questions."""
    world = split_world(seed)
    with_them = with_tokens(world, seed, steps, rates["tokens"], full=True)
    return {"seed": seed, **with_them, **without_tokens(world, seed, steps, rates["without tokens"])}


def with_tokens(world: Split, seed: int, steps: int, rate: float, full: bool = False) -> dict[str, Any]:
    """Train with control tokens and measure the knob; `full` also reads texts and the control per category."""
    base = small_llama(world.every, seed, layers=3, width=64)
    settings = world_settings(seed, learning_rate=rate)
    made, tokens = train(base, *world.train, CATEGORIES, steps=steps, settings=settings)
    chances = {part: control_probabilities(made, tokens, world.prompts(part)) for part in ("validation", "test")}
    knob = {part: one[:, 1:].max(-1).values.numpy() for part, one in chances.items()}
    wanted = world.wanted("test")
    level = calibrate(knob["validation"].tolist(), world.wanted("validation").tolist())
    compared = chances["test"][:, 1:].max(-1).values >= chances["test"][:, 0]
    found = {
        "auroc": float(roc_auc_score(wanted, knob["test"])),
        "f1": f1_score(knob["test"] >= level, wanted),
        "f1 compared": f1_score(compared.numpy(), wanted),
    }
    if not full:
        return found
    other = random.Random(seed).choice([one for one in range(len(made.tokenizer)) if one not in tokens.ids])
    chance = first_word(made, world.prompts("test"), [other])
    levels = np.r_[np.unique(knob["test"]), 1.1]
    answers = answer(made, tokens, world.prompts("test")[:24], level, max_new_tokens=8)
    agree = [(token != tokens.respond) == text.strip().startswith("that ") for token, text in answers]
    own, others = control_changes(made, tokens, *world.test)
    return found | {
        "auroc, random token": float(roc_auc_score(wanted, chance)),
        "consistency": float(np.mean(agree)),
        "own change": own,
        "other change": others,
        "false refusals": [float((knob["test"][~wanted] >= one).mean()) for one in levels],
        "right refusals": [float((knob["test"][wanted] >= one).mean()) for one in levels],
    }


def without_tokens(world: Split, seed: int, steps: int, rate: float) -> dict[str, float]:
    """Train on the same data without tokens; its answers, and the probability of a refusal's first word as a knob."""
    plain = small_llama(world.every, seed, layers=3, width=64)
    teach(plain, world.train[0], seed, steps, title="without tokens", learning_rate=rate)
    wanted = world.wanted("test")
    said = np.array(
        [text.strip().startswith("that ") for text in generate(plain, world.prompts("test"), max_new_tokens=8)]
    )
    word = [plain.encoder().answer(text)[0][0] for text in REFUSALS.values()]
    checked, knob = (first_word(plain, world.prompts(part), sorted(set(word))) for part in ("validation", "test"))
    level = calibrate(checked.tolist(), world.wanted("validation").tolist())
    return {
        "f1 without tokens": f1_score(said, wanted),
        "f1 word": f1_score(knob >= level, wanted),
        "rate without tokens": float(said.mean()),
    }


def first_word(model: LanguageModel, prompts: Sequence[str], ids: Sequence[int]) -> np.ndarray:
    """Return the probability that an answer begins with one of the tokens, one number per prompt."""
    return np.asarray(next_token_logits(model, prompts).softmax(-1)[:, list(ids)].sum(-1).numpy())


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
