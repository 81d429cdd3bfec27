"""Multiple-choice questions: read them, relabel them for training, and measure how a model answers them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example, read_rows, short
from letheon.core.scoring.answer_trees import score_answers
from letheon.core.statistics import Estimate, estimate_mean

# Least accuracy above chance before forgetting; below it a forget ratio means nothing.
LEAST_KNOWN = 0.15


@dataclass(frozen=True)
class Choice:
    """A multiple-choice question.

    Attributes:
        prompt: the question.
        options: the candidate answers.
        gold: index of the right option.
        group: name shared by rows about one fact (such as paraphrases); probes are never fitted on some rows of a group
            and tested on others.
    """

    prompt: str
    options: tuple[str, ...]
    gold: int
    group: str = ""

    @property
    def answer(self) -> str:
        """The right option."""
        return self.options[self.gold]


def read_choices(path: str | Path) -> list[Choice]:
    """Read JSON lines {"prompt", "options": [...], "gold": number or text, "group"?}.

    Raises:
        InputError: a bad row or no rows; the message names file, row, field and value.
    """
    found = [_choice(row, f"{path}, row {number}") for number, row in read_rows(path)]
    if not found:
        raise InputError(f"{path} holds no rows", "give a file with at least one row")
    return found


def _choice(row: Any, where: str) -> Choice:
    if not isinstance(row, dict):
        raise InputError(f"{where}: found {short(row)}, not an object", 'write {"prompt", "options", "gold"}')
    prompt, options, gold = row.get("prompt"), row.get("options"), row.get("gold")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"{where}, field 'prompt': found {short(prompt)}, not a non-empty text", "fill it")
    texts = options if isinstance(options, list) else []
    if len(texts) < 2 or not all(isinstance(one, str) and one.strip() for one in texts) or len(set(texts)) < len(texts):
        raise InputError(f"{where}, field 'options': found {short(options)}", "give two or more different texts")
    number = texts.index(gold) if isinstance(gold, str) and gold in texts else gold
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(texts):
        remedy = f"give an option's text, or its number from 0 to {len(texts) - 1}"
        raise InputError(f"{where}, field 'gold': found {short(gold)}", remedy)
    return Choice(prompt, tuple(texts), number, str(row.get("group") or ""))


def relabelled(rows: Sequence[Choice], labels: Literal["random", "flipped", "true"], seed: int = 0) -> list[Example]:
    """Make rows to fine-tune on (`letheon.core.training.finetuning`): each prompt with one of its options.

    `random` is the paper's forgetting: one option per row, drawn once and uniformly; rows with the same options get
    each of them equally often (up to one), so that the labels teach no bias. `flipped` takes a wrong option; `true`
    takes the right one, as a control for more training.
    """
    draw = random.Random(seed)
    hands: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        hands.setdefault(tuple(row.options), []).append("")
    for options, hand in hands.items():
        hand[:] = (draw.sample(options, len(options)) * len(hand))[: len(hand)]
        draw.shuffle(hand)
    found = []
    for number, row in enumerate(rows, start=1):
        wrong = [option for option in row.options if option != row.answer]
        chosen = {"random": hands[tuple(row.options)].pop(), "flipped": draw.choice(wrong), "true": row.answer}[labels]
        found.append(Example(row.prompt, chosen, f"{labels}-{number}"))
    return found


def option_probabilities(
    model: LanguageModel, rows: Sequence[Choice], *, per_token: bool = False
) -> list[Float[np.ndarray, " _"]]:
    """Compute each row's softmax over its options' log-probabilities, end of turn included.

    Args:
        per_token: average instead of sum over an option's tokens; use it if options differ in length.
    """
    found = []
    for scores in score_answers(model, [(row.prompt, row.options) for row in rows]):
        logp = np.array([score.logp.mean() if per_token else score.logp.sum() for score in scores])
        weight = np.exp(logp - logp.max())
        found.append(weight / weight.sum())
    return found


@dataclass(frozen=True)
class Answered:
    """Measures of a model's answers.

    Attributes:
        accuracy: share of rows whose right option is the most probable.
        chance: mean of 1 / number of options.
        gold_probability: mean probability of the right option.
        confidence: mean probability of the most probable option.
        from_uniform: mean total-variation distance of the options' distribution from the uniform one.
        commonest: share of rows with the most common answer; near 1 the model gives one answer to everything.
    """

    accuracy: Estimate
    chance: float
    gold_probability: float
    confidence: float
    from_uniform: float
    commonest: float


def answered(rows: Sequence[Choice], probabilities: Sequence[Float[np.ndarray, " _"]]) -> Answered:
    """Measure a model's answers from its options' probabilities."""
    pairs = list(zip(rows, probabilities, strict=True))
    said = Counter(row.options[int(p.argmax())] for row, p in pairs)
    return Answered(
        accuracy=estimate_mean([float(p.argmax() == row.gold) for row, p in pairs], share=True),
        chance=float(np.mean([1 / len(row.options) for row in rows])),
        gold_probability=float(np.mean([p[row.gold] for row, p in pairs])),
        confidence=float(np.mean([p.max() for _, p in pairs])),
        from_uniform=float(np.mean([np.abs(p - 1 / len(p)).sum() / 2 for _, p in pairs])),
        commonest=max(said.values()) / len(rows),
    )


def forget_ratio(before: Answered, after: Answered) -> float | None:
    """Compute (accuracy before - after) / (before - chance): 0 for no forgetting, 1 for complete forgetting.

    It is None if the accuracy before was less than `LEAST_KNOWN` above chance.
    """
    known = (before.accuracy.value or 0.0) - before.chance
    if known < LEAST_KNOWN:
        return None
    return ((before.accuracy.value or 0.0) - (after.accuracy.value or 0.0)) / known
