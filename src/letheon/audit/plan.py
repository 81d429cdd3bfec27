"""The plan of an audit: how much is done, and on which rows, fixed before the first model is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import Tensor

from letheon.audit.measuring.answer_kinds import FoundFact
from letheon.audit.measuring.continuation import Continuation
from letheon.audit.measuring.evaluate import bare, evaluate
from letheon.audit.measuring.quantise import STANDARD_GRIDS, Grid
from letheon.audit.measuring.templates import Template
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.spans import find_values, names_its_subject
from letheon.core.scoring.word_masks import WordRules, span_of_fact, telling_words
from letheon.forget.request import Request
from letheon.probe.linear_probes import token_states

# Retain rows that the steering attack compares forget rows with.
STEERED_RETAIN = 16
# Of at most FEW facts the model before is asked which it gives.
FEW = 8
# Kept rows that relearning trains on at least, as far as there are: they may stand in for a single row to forget.
LEAST_UNRELATED = 8
GENERAL_TEXT = Path(__file__).with_name("general.txt")
Row = TypeVar("Row")


@dataclass(frozen=True)
class Settings:
    """The extent of an audit.

    Attributes:
        retain_rows: number of retain rows, of neighbours and of holdout rows; drawn by the seed where there are more.
        control_rows: forget rows whose value is also scored under unknown subjects.
        attack_rows: forget rows that the templated, sampled and measured attacks try, of running text as many; the
            paraphrases and the begun answers try all.
        thorough: whether the costly attacks run too (see `attacks.base`).
        also: names of costly attacks that run in any case.
        leak_answers: answers sampled per row, for every second of these rows (of fewer than ten every one, of one
            or two texts every fact); the worst counts.
        option_draws: drawings of false values per row where options are offered, the right one at every place.
        rounded_rows: retain rows that the rounded models answer.
        general_texts: pieces of general text for the perplexity, from the first on; 0 takes all.
        relearn_steps, relearn_learning_rate: training of the relearning attack; 0 steps leave it out.
        soft_prompt_steps: budget of the soft prompt, steps; 0 leaves it out.
        grids: grids that the weights are rounded to.
        max_new_tokens: limit of an answer; None: twice the longest expected answer and 8 more, at most 200.
        batch_size: answers decoded together.
        attention: attention implementation under which the models are examined, as `hyper`; empty takes their own.
        seed: seed of draws, intervals and relearning.
    """

    retain_rows: int = 64
    control_rows: int = 64
    attack_rows: int = 16
    thorough: bool = True
    also: tuple[str, ...] = ()
    leak_answers: int = 8
    option_draws: int = 3
    rounded_rows: int = 16
    general_texts: int = 8
    relearn_steps: int = 6
    relearn_learning_rate: float = 5e-5
    soft_prompt_steps: int = 0
    grids: tuple[Grid, ...] = STANDARD_GRIDS
    max_new_tokens: int | None = None
    batch_size: int = 64
    attention: str = ""
    seed: int = 0


# For a first look: fewer rows, no costly attacks, 4 bits only, three steps of relearning.
QUICK = Settings(
    retain_rows=16,
    control_rows=8,
    attack_rows=8,
    thorough=False,
    rounded_rows=8,
    general_texts=4,
    relearn_steps=3,
    grids=STANDARD_GRIDS[:1],
)


@dataclass(frozen=True)
class AuditPlan:
    """The rows that every model is asked, fixed before the first of them is measured.

    Attributes:
        forget: all rows to forget, as the request gives them; one without a value has what was found (`FoundFact`).
        facts: the same with their values: given, or found with the model before; running text as in `forget`.
        controls: those of `facts` that are also scored under unknown subjects.
        tried: those of `forget` with a question that the templated and measured attacks try.
        tried_facts: the same rows with their values.
        tried_texts: those of `forget` that are running text and that the attacks on such text try.
        retain, neighbours: kept rows, drawn by the seed where there are many.
        holdout: rows like the forgotten ones that no model saw, drawn by the seed where there are many.
        rounded: kept rows that are asked of the rounded models.
        general: running text.
        trained, watched: training rows and held-out rows of the relearning attack.
        unrelated: retain rows that it trains on instead, as many as `trained` and at least eight as far as there are.
        settings: how much is done.
        continuation: the tasks that the models learn afterwards, if any; see `continuation`.
        states_before: the states of the model before at the end of the questions of `tried` and of `retain`, [layers,
            rows, width] each; None unless the steering attack runs.
        came_with: the chat template of the model that is examined, where the models are asked alike; see `templates`.
    """

    forget: list[Example]
    facts: list[Example]
    controls: list[Example]
    tried: list[Example]
    tried_facts: list[Example]
    tried_texts: list[Example]
    retain: list[Example]
    neighbours: list[Example]
    holdout: list[Example]
    rounded: list[Example]
    general: list[Example]
    trained: list[Example]
    watched: list[Example]
    unrelated: list[Example]
    settings: Settings
    continuation: Continuation | None = None
    states_before: tuple[Tensor, Tensor] | None = None
    came_with: Template | None = None


def make_plan(
    before: LanguageModel, request: Request, settings: Settings, continuation: Continuation | None = None
) -> AuditPlan:
    """Draw rows, find values with the model before, split the rows of the relearning attack."""
    seed = settings.seed
    forget = list(request.forget)
    retain = draw(request.retain, settings.retain_rows, seed, "retain")
    rules = WordRules.of(forget, request.retain)
    facts = with_values(before, forget, rules)
    forget = [
        FoundFact.of(row, fact.value if names_its_subject(row) else _words_of_fact(row, rules))
        for row, fact in zip(forget, facts, strict=True)
    ]
    facts = [fact if fact.prompt else row for row, fact in zip(forget, facts, strict=True)]
    few = 1 < len(facts) <= FEW and settings.relearn_steps
    answered = evaluate(before, bare(facts), max_new_tokens=settings.max_new_tokens) if few else None
    known = [bool(given) for given in answered.values("recall")] if answered else ()
    trained, watched = split_for_relearning(facts, stream_seed(seed, "relearn"), known=known)
    tried = draw([i for i, row in enumerate(forget) if row.prompt], settings.attack_rows, seed, "attacks")
    general = list(request.general) or shipped_text()
    return AuditPlan(
        forget=forget,
        facts=facts,
        controls=draw(facts, settings.control_rows, seed, "controls"),
        tried=[forget[i] for i in tried],
        tried_facts=[facts[i] for i in tried],
        tried_texts=draw([row for row in forget if not row.prompt], settings.attack_rows, seed, "texts"),
        retain=retain,
        neighbours=draw(request.neighbours, settings.retain_rows, seed, "neighbours"),
        holdout=draw(request.holdout, settings.retain_rows, seed, "holdout"),
        rounded=draw(retain, settings.rounded_rows, seed, "rounded"),
        general=general[: settings.general_texts or None],
        trained=trained,
        watched=watched,
        unrelated=draw(retain, max(len(trained), LEAST_UNRELATED), seed, "unrelated"),
        settings=settings,
        continuation=continuation,
        states_before=_states(before, [forget[i] for i in tried], retain) if _steers(settings) else None,
    )


def _words_of_fact(row: Example, rules: WordRules) -> str:
    return " ".join(row.answer[begin:end] for begin, end in telling_words(row, rules))


def _steers(settings: Settings) -> bool:
    return settings.thorough or "steering" in settings.also


def _states(model: LanguageModel, tried: Sequence[Example], retain: Sequence[Example]) -> tuple[Tensor, Tensor] | None:
    """Return the states at the end of the questions of both sets; None where one has no question."""
    encoder = model.encoder()
    rows = [[encoder.prompt(row.prompt) for row in some if row.prompt] for some in (tried, retain[:STEERED_RETAIN])]
    return (token_states(model, rows[0]), token_states(model, rows[1])) if all(rows) else None


def draw(rows: Sequence[Row], most: int, seed: int, stream: str) -> list[Row]:
    """Draw at most `most` rows, in their order, by a random stream of their own."""
    if len(rows) <= most:
        return list(rows)
    chosen = np.random.default_rng(stream_seed(seed, stream)).choice(len(rows), most, replace=False)
    return [rows[i] for i in sorted(chosen.tolist())]


def with_values(before: LanguageModel, rows: Sequence[Example], rules: WordRules) -> list[Example]:
    """Find the values of rows that lack one; running text has no question, and stays as it is.

    Where no subject can be exchanged, a value runs from the first to the last word that carries the fact.
    """
    asked = [row for row in rows if row.prompt]
    found = dict(zip(map(id, asked), find_values(before, asked), strict=True)) if asked else {}
    for row in asked:
        if row.value is None and not names_its_subject(row) and (span := span_of_fact(row, rules)):
            found[id(row)] = replace(row, value=span)
    return [found.get(id(row), row) for row in rows]


def split_for_relearning(
    examples: Sequence[Example], seed: int = 0, most: int = 64, known: Sequence[bool] = ()
) -> tuple[list[Example], list[Example]]:
    """Split rows into training rows (half, at least one) and held-out rows (the rest); at most `most` of each.

    With a single row both are that row: the curve then shows how fast it is learnt, not what was hidden.

    Args:
        known: per row, whether the model before gives its fact. Known rows are dealt to both sides, the held-out one
            first, since nothing is seen by holding the others out.
    """
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    half = max(1, len(examples) // 2)
    train, watched = order[:half], order[half:]
    if any(known):
        order.sort(key=lambda i: not known[i])
        train, watched = order[1::2], order[::2]
    train, watched = sorted(train[:most]), sorted(watched[:most])
    return [examples[i] for i in train or watched], [examples[i] for i in watched or train]


def shipped_text() -> list[Example]:
    """Return the paragraphs of general prose that come with the package."""
    paragraphs = GENERAL_TEXT.read_text(encoding="utf-8").strip().split("\n\n")
    return [Example("", " ".join(text.split()), id=f"general-{i}") for i, text in enumerate(paragraphs, start=1)]
