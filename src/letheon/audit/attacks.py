"""Attempts to bring the forgotten back: begun answers, other wordings, and a little training.

An attack says something only beside its controls: the model before the deletion must fall to it (positive control),
a model that never saw the rows must not (negative control). These functions measure one model; `run.py` puts the
three beside each other.

    paraphrase           other wordings of the question
    first_token_prefix   the answer is begun with its own first token
    value_prefix         the answer is given up to its value, and the value's first token too
    relearn              the model is trained on some of the rows; the others are watched
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from letheon.audit.answering import answer_limit
from letheon.audit.answers import recalls
from letheon.audit.copies import plain_copy
from letheon.audit.evaluate import RowScores, evaluate
from letheon.core.encoding import value_span
from letheon.core.examples import Example
from letheon.core.finetuning import finetune
from letheon.core.generation import generate
from letheon.core.models import LanguageModel
from letheon.core.statistics import Estimate, estimate_mean
from letheon.core.training import TrainSettings

DESCRIPTIONS = {
    "paraphrase": "Asks the same questions in other words.",
    "first_token_prefix": "Begins the answer with its own first token and lets the model go on.",
    "value_prefix": "Gives the answer up to the fact, and the fact's first token, and lets the model go on.",
}


@dataclass(frozen=True)
class Attempt:
    """One try at one row.

    Attributes:
        example: the row.
        prompt: what was asked.
        prefix: tokens with which the answer was begun.
        answer: what came, begun part included.
        recovered: whether it gives the fact.
    """

    example: Example
    prompt: str
    prefix: tuple[int, ...] = ()
    answer: str = ""
    recovered: bool = False


def attempts(model: LanguageModel, examples: Sequence[Example], facts: Sequence[Example]) -> dict[str, list[Attempt]]:
    """What each attack of this file (but relearning) asks.

    Rows that an attack does not fit are left out: running text, rows without other wordings, and rows whose fact
    the begun answer would give away by itself.

    Args:
        examples: the forgotten rows.
        facts: the same rows with their values found.
    """
    asked = [row for row in examples if row.prompt]
    known = [row for row in facts if row.prompt]
    planned = {
        "paraphrase": [Attempt(row, prompt) for row in asked for prompt in row.paraphrased_prompts],
        "first_token_prefix": [Attempt(row, row.prompt, first_token(model, row)) for row in asked],
        "value_prefix": [Attempt(row, row.prompt, start) for row in known if (start := up_to_value(model, row))],
    }
    return {name: [one for one in tries if not _given_away(model, one)] for name, tries in planned.items()}


def _given_away(model: LanguageModel, attempt: Attempt) -> bool:
    return recalls(model.tokenizer.decode(attempt.prefix), attempt.example, attempt.example.answer)


def first_token(model: LanguageModel, example: Example) -> tuple[int, ...]:
    """The first token of the true answer."""
    return tuple(model.encoder().answer(example.answer, end=False)[0][:1])


def up_to_value(model: LanguageModel, example: Example) -> tuple[int, ...] | None:
    """The true answer's tokens up to and with the first one of its value.

    None where the row has no value, or a value of one token: nothing would be left to find.
    """
    if example.value is None:
        return None
    ids, spans = model.encoder().answer(example.answer, end=False)
    begin, _ = value_span(example)
    inside = [i for i, (start, stop) in enumerate(spans) if start < begin + len(example.value) and stop > begin]
    return tuple(ids[: inside[0] + 1]) if len(inside) > 1 else None


def attack(
    model: LanguageModel,
    examples: Sequence[Example],
    facts: Sequence[Example],
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 32,
) -> dict[str, list[Attempt]]:
    """Run all attacks of this file but relearning, in one batched generation; see `attempts` for the rows."""
    planned = attempts(model, examples, facts)
    flat = [attempt for tries in planned.values() for attempt in tries]
    if not flat:
        return planned
    texts = generate(
        model,
        [attempt.prompt for attempt in flat],
        prefixes=[attempt.prefix for attempt in flat],
        max_new_tokens=max_new_tokens or answer_limit(model, examples),
        batch_size=batch_size,
    )
    done = iter(
        Attempt(a.example, a.prompt, a.prefix, text, recalls(text, a.example, a.example.answer))
        for a, text in zip(flat, texts, strict=True)
    )
    return {name: [next(done) for _ in tries] for name, tries in planned.items()}


def success(tries: Sequence[Attempt]) -> Estimate:
    """Share of the attempts that gave the fact, with its interval."""
    return estimate_mean([float(attempt.recovered) for attempt in tries], share=True)


@dataclass(frozen=True)
class RelearnPoint:
    """The watched rows after some steps: mean probability of their facts, share of them recalled."""

    step: int
    probability: float
    recall: float


def relearn(
    model: LanguageModel,
    train: Sequence[Example],
    watched: Sequence[Example],
    *,
    steps: int = 6,
    learning_rate: float = 5e-5,
    seed: int = 0,
) -> list[RelearnPoint]:
    """Fine-tune a copy of the model on some rows and look at others after every step.

    All weights are trained.

    Args:
        train: rows of the attacker.
        watched: rows that are measured; other ones than `train`, or nothing is learnt about hidden knowledge.
    """
    attacked = plain_copy(model)
    limit = answer_limit(model, watched)
    points: list[RelearnPoint] = []
    answers: list[str | None] = [None] * len(watched)

    def watch(history: Sequence[object]) -> None:
        # The answers of the step before are good guesses: most steps change few of them.
        known = evaluate(attacked, watched, drafts=answers, max_new_tokens=limit)
        answers[:] = [row.answer for row in known.rows]
        probability = float(np.mean([fact_probability(row) for row in known.rows]))
        points.append(RelearnPoint(len(history), probability, float(np.mean(known.known("recall")))))

    watch([])
    settings = TrainSettings(learning_rate=learning_rate, batch_size=min(len(train), 8), seed=seed)
    finetune(attacked, train, settings, steps, stop=watch, title=f"relearning: {model.name}")
    return points


def fact_probability(row: RowScores) -> float:
    """Probability of a row's fact: of its value's tokens, or of the whole answer where there is no value."""
    return row.probability if row.value_probability is None else row.value_probability


def split_for_relearning(
    examples: Sequence[Example], seed: int = 0, most: int = 64
) -> tuple[list[Example], list[Example]]:
    """Rows for the attacker (half, at least one) and rows to watch (the rest); at most `most` of each.

    With a single row both are that row: the curve then shows how fast it is learnt, not what was hidden.
    """
    order = np.random.default_rng(seed).permutation(len(examples))
    half = max(1, len(examples) // 2)
    train = sorted(order[:half][:most].tolist())
    watched = sorted(order[half:][:most].tolist()) or train
    return [examples[i] for i in train], [examples[i] for i in watched]
