"""Probing: do the hidden states still tell the true answers of the forgotten rows from false ones?

A model may have stopped saying a fact and still represent it. A linear probe is fitted on *kept* rows, which the model
is known to know, at the last token of "question, answer": true answers against false ones. Then it is put to the
forgotten rows. So the attacker needs no forgotten fact, the forgotten rows are all there to test (five of them are
too few to fit anything on), and what is found is the representation by which the model tells truth from falsehood
elsewhere, not a regularity of these rows. A probe fitted and tested on forgotten rows, by cross-validation, would learn
the facts that it claims to find. The layer is chosen on the kept rows alone, by folds of whole questions.

States of a question's candidates are centred: the probe sees how they differ, not what the question is about.
True and false answers can still differ in their words alone. On the demo's world, whose false answers are values of
other people, a probe learned which values had been false, and a model that knew every fact fell to 0.2. So values are
balanced (see `questions`), and a model that never saw the rows shows what is left.

Measured there with balanced values: in a model of 135M parameters that knows all facts the probe is at chance on kept
rows too (0.45 to 0.6 at every layer), so that the attack calls itself uninformative. The logit lens (`lens.py`), which
fits nothing, finds every fact of that model, and none in the retrained one.

Source: Belinkov, Probing Classifiers, arXiv 2102.12452; probes of truth: Marks and Tegmark, arXiv 2310.06824; deleted
        facts in hidden states: Patil et al., arXiv 2309.17410.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from letheon.audit.attacks.base import MeasuredAttack, Tried
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import value_span
from letheon.core.rows.examples import Example
from letheon.core.statistics import estimate_mean
from letheon.probe.linear_probes import token_states

FALSE_ANSWERS = 3  # of each question
KEPT = 24  # kept rows at most
LEAST_QUESTIONS = 6  # to fit a probe on; fewer say nothing
LAYERS = 6  # tried, evenly spaced up to the last
FOLDS = 3
# Inverse strength of the L2 penalty: states have more numbers than there are answers.
STRENGTH = 0.01


@dataclass(frozen=True)
class Question:
    """A row with false answers beside its own."""

    row: Example
    false: tuple[str, ...]

    @property
    def answers(self) -> list[str]:
        """The true one first."""
        return [self.row.answer, *self.false]


def questions(kept: Sequence[Example], forgotten: Sequence[Example]) -> tuple[list[Question], list[Question]]:
    """Rows with false answers: their own, or their answer with values of kept rows that answer like questions.

    A probe must find nothing in the words alone. So a row's own false answers are left out where they name the value of
    another row, and values are handed on in turn: each is true of one kept row and false of as many as any other.
    """
    kept, forgotten = ([row for row in rows if row.prompt] for rows in (kept, forgotten))
    values = {row.value.casefold() for row in (*kept, *forgotten) if row.value}
    alike: dict[str, list[Example]] = {}
    for row in kept:
        if row.value:
            alike.setdefault(_kind(row), []).append(row)

    def of(row: Example) -> Question:
        others = values - {(row.value or "").casefold()}
        own = [text for text in row.perturbed_answers if not any(value in text.casefold() for value in others)]
        return Question(row, tuple(own[:FALSE_ANSWERS]) or _handed_on(row, alike.get(_kind(row), [])))

    found = ([of(row) for row in rows] for rows in (kept, forgotten))
    known, asked = ([question for question in each if question.false] for each in found)
    return known, asked


def _kind(row: Example) -> str:
    """What a question asks for: its words without the subject's, or its first two where no subject is given."""
    if row.subject and row.subject in row.prompt:
        return row.prompt.replace(row.subject, "").casefold()
    return " ".join(row.prompt.casefold().split()[:2])


def _handed_on(row: Example, alike: Sequence[Example]) -> tuple[str, ...]:
    """The row's answer with the values of the next rows in turn; of any of them where it is not one of the kept."""
    if row.value is None:
        return ()
    place = next((i for i, one in enumerate(alike) if one is row), -1)
    turn = [*alike[place + 1 :], *alike[: max(place, 0)]]
    begin, end = value_span(row)
    texts = [row.answer[:begin] + str(one.value) + row.answer[end:] for one in turn if one.value != row.value]
    return tuple(texts[:FALSE_ANSWERS])


def run(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Fit on kept rows, test on forgotten ones; None where either lack false answers.

    The value is the mean over forgotten questions of the share of false answers that the probe ranks below the true
    one (ties count half): the AUROC within a question. Chance is 0.5.
    """
    kept, forgotten = questions([*plan.retain, *plan.neighbours][:KEPT], plan.tried_facts)
    if len(kept) < LEAST_QUESTIONS or not forgotten:
        return None
    states, owner, truth = centred_states(model, [*kept, *forgotten])
    fit = owner < len(kept)
    layer = best_layer(states[:, fit], owner[fit], truth[fit])
    scores = probe(states[layer, fit], truth[fit]).decision_function(states[layer, ~fit])
    ranks = within_question(scores, owner[~fit], truth[~fit])
    detail: dict[str, str | float | None] = {"layer": float(layer)}
    items = [Item(id=q.row.id, value=value, detail=detail) for q, value in zip(forgotten, ranks, strict=True)]
    return Tried(estimate_mean(ranks), items)


def centred_states(
    model: LanguageModel, asked: Sequence[Question]
) -> tuple[Float[np.ndarray, "layers n width"], np.ndarray, np.ndarray]:
    """States at the end of each answer less their mean over the question; whose answer it is; whether it is true."""
    encoder = model.encoder()
    owner = np.array([i for i, question in enumerate(asked) for _ in question.answers])
    truth = np.array([place == 0 for question in asked for place in range(len(question.answers))])
    ids = [[*encoder.prompt(q.row.prompt), *encoder.answer(text, end=False)[0]] for q in asked for text in q.answers]
    states = token_states(model, ids).numpy()
    chosen = np.unique(np.linspace(0, len(states) - 1, LAYERS).round().astype(int))
    states = states[chosen]
    for i in range(len(asked)):
        states[:, owner == i] -= states[:, owner == i].mean(1, keepdims=True)
    return states / np.maximum(states.std((1, 2), keepdims=True), 1e-12), owner, truth


def probe(states: Float[np.ndarray, "n width"], truth: np.ndarray) -> Any:
    """A logistic regression without intercept (the states are centred), both kinds of answers weighing the same."""
    regression = LogisticRegression(C=STRENGTH, class_weight="balanced", fit_intercept=False, max_iter=500)
    return regression.fit(states, truth)


def best_layer(states: Float[np.ndarray, "layers n width"], owner: np.ndarray, truth: np.ndarray) -> int:
    """The layer whose probe ranks best on questions that it was not fitted on; the earliest of equals."""
    folds = list(GroupKFold(min(FOLDS, len(np.unique(owner)))).split(truth, truth, owner))

    def quality(layer: int) -> float:
        ranks: list[float] = []
        for fit, test in folds:
            scores = probe(states[layer, fit], truth[fit]).decision_function(states[layer, test])
            ranks += within_question(scores, owner[test], truth[test])
        return float(np.mean(ranks))

    return max(range(len(states)), key=quality)


def within_question(scores: np.ndarray, owner: np.ndarray, truth: np.ndarray) -> list[float]:
    """For each question the share of its false answers that score below its true one; ties count half.

    >>> within_question(np.array([2.0, 1.0, 2.0]), np.array([0, 0, 0]), np.array([True, False, False]))
    [0.75]
    """
    found = []
    for number in np.unique(owner):
        own, true = scores[owner == number], truth[owner == number]
        difference = own[true][:, None] - own[~true][None]
        found.append(float(np.mean((difference > 0) + 0.5 * (difference == 0))))
    return found


PROBING = MeasuredAttack(
    name="probing",
    description="Fits a linear probe for true answers on the hidden states of kept rows and puts it to the forgotten.",
    needs=f"{LEAST_QUESTIONS} kept rows and a forgotten one with false answers (field perturbed_answer) or values",
    run=run,
    chance=0.5,
    unit="AUROC",
    thorough=True,
)
