"""Probing: do the hidden states still tell the true answers to the forget rows from false ones?

A model may have stopped saying a fact and still represent it. A linear probe is fitted on *retained* rows, which the
model is known to know, at the last token of "question, answer": true answers against false ones. Then it is applied to
the forget rows. So the attacker needs no forgotten fact, all forget rows are test rows (five of them are too few to fit
anything on), and the probe finds the representation by which the model tells truth from falsehood elsewhere, not a
regularity of these rows. A probe fitted and tested on forget rows, by cross-validation, would learn the facts that it
claims to find. The layer is chosen on the retained rows alone, by folds of whole questions.

States of a question's candidate answers are centred: the probe sees how they differ, not what the question is about.
True and false answers can still differ in their words alone. On the demo's world, whose false answers are values of
other people, a probe learned which values had been false, and a model that knew every fact fell to 0.2. So values are
balanced (see `candidate_answers`), and a model that never saw the rows shows what is left.

Measured there with balanced values: in a model of 135M parameters that knows all facts the probe is at chance on
retained rows too (0.45 to 0.6 at every layer), so that the attack is uninformative. The logit lens (`lens.py`), which
fits nothing, finds every fact of that model, and none in the retrained one.

Source: Belinkov, Probing Classifiers, arXiv 2102.12452; probes of truth: Marks and Tegmark, arXiv 2310.06824; deleted
        facts in hidden states: Patil et al., arXiv 2309.17410.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from letheon.audit.attacks.base import Tried
from letheon.audit.attacks.candidate_answers import Question, questions_of, ranking_attack, share_below
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.models import LanguageModel
from letheon.core.statistics import estimate_mean
from letheon.probe.linear_probes import token_states

LAYERS = 6  # tried, evenly spaced up to the last
FOLDS = 3
# Inverse strength of the L2 penalty: states have more numbers than there are answers.
STRENGTH = 0.01


def run(model: LanguageModel, plan: AuditPlan) -> Tried | None:
    """Fit the probe on retained rows and test it on forget rows; None where either lack false answers.

    The value is the mean over forget questions of the share of false answers that the probe ranks below the true one
    (ties count half): the AUROC within a question. Chance is 0.5.
    """
    asked = questions_of(plan)
    if asked is None:
        return None
    kept, forgotten = asked
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
    """Return centred states at the end of each answer, the number of its question, and whether it is true."""
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
    """Fit a logistic regression without intercept (the states are centred); true and false answers weigh the same."""
    regression = LogisticRegression(C=STRENGTH, class_weight="balanced", fit_intercept=False, max_iter=500)
    return regression.fit(states, truth)


def best_layer(states: Float[np.ndarray, "layers n width"], owner: np.ndarray, truth: np.ndarray) -> int:
    """Return the layer whose probe ranks best on questions that it was not fitted on; the earliest of equals."""
    folds = list(GroupKFold(min(FOLDS, len(np.unique(owner)))).split(truth, truth, owner))

    def quality(layer: int) -> float:
        ranks: list[float] = []
        for fit, test in folds:
            scores = probe(states[layer, fit], truth[fit]).decision_function(states[layer, test])
            ranks += within_question(scores, owner[test], truth[test])
        return float(np.mean(ranks))

    return max(range(len(states)), key=quality)


def within_question(scores: np.ndarray, owner: np.ndarray, truth: np.ndarray) -> list[float]:
    """Return for each question the share of its false answers that score below its true one; ties count half.

    >>> within_question(np.array([2.0, 1.0, 2.0]), np.array([0, 0, 0]), np.array([True, False, False]))
    [0.75]
    """
    here = [owner == number for number in np.unique(owner)]
    return [share_below(scores[own & truth], scores[own & ~truth]) for own in here]


PROBING = ranking_attack(
    "probing",
    "Fits a linear probe for true answers on the hidden states of kept rows and puts it to the forgotten.",
    run,
)
