"""Many sampled answers to the plain question, of which the worst counts (leak@k).

Greedy answers show the most probable answer only; a fact of probability 0.1 comes in every second set of seven.
Of ten rows or more every second one is asked: k answers cost k times as much as one.
"""

from __future__ import annotations

from letheon.audit.attacks.base import Attempt, TextualAttack, sampled
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel


def _asked_again(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [Attempt(row, row.prompt) for row in sampled(plan.tried) for _ in range(plan.settings.leak_answers)]


LEAK = TextualAttack(
    "leak_at_k",
    "Samples many answers to each question at temperature 1; a fact counts if any of them gives it.",
    "no row has a question",
    _asked_again,
    temperature=1.0,
    worst=True,
    thorough=True,
)
