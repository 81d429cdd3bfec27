"""Probing: do the hidden states still tell the true answers to the forget rows from false ones?

A model may have stopped saying a fact and still represent it. A linear probe is fitted on *retained* rows, which the
model is known to know, at the last token of "question, answer": true answers against false ones. Then it is applied to
the forget rows. So the attacker needs no forgotten fact, all forget rows are test rows (five of them are too few to fit
anything on), and the probe finds the representation by which the model tells truth from falsehood elsewhere, not a
regularity of these rows. A probe fitted and tested on forget rows, by cross-validation, would learn the facts that it
claims to find.

States of a question's candidate answers are centred: the probe sees how they differ, not what the question is about.
True and false answers can still differ in their words alone: a value of a retained row is true once and false three
times, and a probe that was fitted on it calls it false wherever it comes. So for each question the probe is fitted
anew, without the answers that say what this one's answers say, where enough others remain (see `fitted_on`). The layer
is chosen on the retained rows alone, each of them ranked in the same way.

Measured on SmolLM2 of 135M parameters that knows all facts of seven requests: at the best of six layers the retained
rows stand at .53 to .72, and five or six forget rows seldom clear chance, so that the attack often shows nothing
(docs/decisions/0006-audit-limits.md). The logit lens (`lens.py`), which fits nothing, finds most facts of such models,
and few in the retrained ones.

Source: Belinkov, Probing Classifiers, arXiv 2102.12452; probes of truth: Marks and Tegmark, arXiv 2310.06824; deleted
        facts in hidden states: Patil et al., arXiv 2309.17410.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression

from letheon.audit.attacks.base import Tried
from letheon.audit.attacks.candidate_answers import LEAST_QUESTIONS, Question, questions_of, ranking_attack, share_below
from letheon.audit.plan import AuditPlan
from letheon.audit.record.evidence import Item
from letheon.core.model.models import LanguageModel
from letheon.core.scoring.spans import WORD_OR_UNIT
from letheon.core.statistics import estimate_mean
from letheon.probe.linear_probes import token_states

LAYERS = 6  # tried, evenly spaced up to the last
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
    usable = fitted_on(kept, forgotten)
    states, owner, truth = centred_states(model, [*kept, *forgotten])
    ranks = np.array([ranks_of(layer, owner, truth, usable) for layer in states])
    chosen = int(ranks[:, : len(kept)].mean(1).argmax())  # the earliest of equals
    values = ranks[chosen, len(kept) :].tolist()
    detail: dict[str, str | float | None] = {"layer": float(chosen)}
    items = [Item(id=one.row.id, value=value, detail=detail) for one, value in zip(forgotten, values, strict=True)]
    return Tried(estimate_mean(values), items)


def fitted_on(kept: Sequence[Question], forgotten: Sequence[Question]) -> Bool[np.ndarray, "questions answers"]:
    """Return for each question which answers its probe is fitted on: those of other retained questions with new words.

    Two answers say the same where one has all words in which the other differs from the answers beside it. An answer
    that says the same as one of the question's is left out, so that none of these was true or false before; so is a
    question without its true answer or any false one. Where fewer than `LEAST_QUESTIONS` are left ("Yes.", "No."),
    all other retained questions stay as they are. Words are told apart by spaces and signs: what two compounds or two
    Chinese sentences share is not seen.
    """
    asked = [*kept, *forgotten]
    words = [[_words(text) for text in question.answers] for question in asked]
    told = [[text - frozenset.intersection(*texts) for text in texts] for texts in words]

    def new_to(number: int, i: int) -> list[bool]:
        """Which answers of a retained question are new to another question."""
        own = list(zip(words[number], told[number], strict=True))
        new = [
            not any((said and said <= there) or (what and what <= text) for there, what in own)
            for text, said in zip(words[i], told[i], strict=True)
        ]
        return new if new[0] and any(new[1:]) else [False] * len(new)

    rows = []
    for number in range(len(asked)):
        others = [i for i in range(len(kept)) if i != number]
        new = {i: new_to(number, i) for i in others}
        if sum(map(any, new.values())) < LEAST_QUESTIONS:
            new = {i: [True] * len(words[i]) for i in others}
        rows.append([one for i, texts in enumerate(words) for one in new.get(i, [False] * len(texts))])
    return np.array(rows)


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in WORD_OR_UNIT.findall(text.casefold()) if any(map(str.isalnum, word)))


def ranks_of(
    states: Float[np.ndarray, "n width"],
    owner: np.ndarray,
    truth: np.ndarray,
    usable: Bool[np.ndarray, "questions n"],
) -> list[float]:
    """Return for each question the share of its false answers that score below its true one; ties count half.

    The answers of a question that are fitted on are centred anew: the mean of all tells what was left out.
    """
    found = []
    for number, fit in enumerate(usable):
        own = owner == number
        scores = probe(centred(states[fit], owner[fit]), truth[fit]).decision_function(states[own])
        found.append(share_below(scores[truth[own]], scores[~truth[own]]))
    return found


def centred(states: Float[np.ndarray, "... n width"], owner: np.ndarray) -> Float[np.ndarray, "... n width"]:
    """Return states less the mean of their question's."""
    states = states.copy()
    for number in np.unique(owner):
        states[..., owner == number, :] -= states[..., owner == number, :].mean(-2, keepdims=True)
    return states


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
    states = centred(states[chosen], owner)
    return states / np.maximum(states.std((1, 2), keepdims=True), 1e-12), owner, truth


def probe(states: Float[np.ndarray, "n width"], truth: np.ndarray) -> Any:
    """Fit a logistic regression without intercept (the states are centred); true and false answers weigh the same."""
    regression = LogisticRegression(C=STRENGTH, class_weight="balanced", fit_intercept=False, max_iter=500)
    return regression.fit(states, truth)


PROBING = ranking_attack(
    "probing",
    "Fits a linear probe for true answers on the hidden states of kept rows and puts it to the forgotten.",
    run,
)
