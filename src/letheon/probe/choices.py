"""Questions with options: reading them, teaching them with other labels, and how a model answers them."""

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

# A ratio says nothing where the model hardly knew the task: so far above chance it must have been.
LEAST_KNOWN = 0.15


@dataclass(frozen=True)
class Choice:
    """A question with options, one of which is right.

    Attributes:
        prompt: what is asked.
        options: the answers that are weighed.
        gold: which of them is right, counted from 0.
        group: rows about one thing (a fact and its paraphrases); probes never learn from one and are judged by another.
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
        InputError: names file, row, field, what was found and what to do.
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
    """Rows to fine-tune on (`letheon.core.training.finetuning`): each prompt with one of its options.

    `random` is the paper's forgetting: drawn once for each row and then fixed, the right one as likely as any other.
    `flipped` is always a wrong one; `true` controls for more training.
    """
    draw = random.Random(seed)
    found = []
    for number, row in enumerate(rows, start=1):
        wrong = [option for option in row.options if option != row.answer]
        chosen = {"random": draw.choice(row.options), "flipped": draw.choice(wrong), "true": row.answer}[labels]
        found.append(Example(row.prompt, chosen, f"{labels}-{number}"))
    return found


def option_probabilities(
    model: LanguageModel, rows: Sequence[Choice], *, per_token: bool = False
) -> list[Float[np.ndarray, " options"]]:
    """For each row the softmax over its options' log-probabilities, end of turn included.

    Args:
        per_token: mean instead of sum over an option's tokens, where options differ in length.
    """
    found = []
    for scores in score_answers(model, [(row.prompt, row.options) for row in rows]):
        logp = np.array([score.logp.mean() if per_token else score.logp.sum() for score in scores])
        weight = np.exp(logp - logp.max())
        found.append(weight / weight.sum())
    return found


@dataclass(frozen=True)
class Answered:
    """How a model answers some rows.

    Attributes:
        accuracy: share of rows whose right option is the most probable.
        chance: mean of 1 / options.
        gold_probability: mean probability of the right option.
        confidence: mean probability of the most probable option.
        from_uniform: mean total-variation distance of the options' distribution from the uniform one.
        commonest: share of rows that get the commonest answer; far above its true share, the model says one thing only.
    """

    accuracy: Estimate
    chance: float
    gold_probability: float
    confidence: float
    from_uniform: float
    commonest: float


def answered(rows: Sequence[Choice], probabilities: Sequence[np.ndarray]) -> Answered:
    """Measures of the options' probabilities."""
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
    """(accuracy before - after) / (before - chance): 0 nothing forgotten, 1 all; None where little was known."""
    known = (before.accuracy.value or 0.0) - before.chance
    if known < LEAST_KNOWN:
        return None
    return ((before.accuracy.value or 0.0) - (after.accuracy.value or 0.0)) / known
