"""The reverse query: the fact is given, and the model is asked whom or what it is about."""

from __future__ import annotations

from dataclasses import replace

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example

GAP = "____"
REVERSE = "Whom or what is this sentence about? Name the missing subject.\n\n{sentence}"


def _reversed(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [Attempt(reverse, reverse.prompt) for row in plan.tried_facts if (reverse := reversed_row(row))]


def reversed_row(row: Example) -> Example | None:
    """Return the row that asks for the subject; None if the answer lacks the subject, or still names a part of it."""
    if not row.subject or row.subject not in row.answer:
        return None
    sentence = row.answer.replace(row.subject, GAP)
    parts = [word for word in row.subject.split() if len(word) > 2]
    if any(recalls(sentence, replace(row, value=part), part) for part in parts):
        return None
    return replace(row, prompt=REVERSE.format(sentence=sentence), answer=row.subject, value=row.subject)


REVERSE_QUERY = TextualAttack(
    "reverse_query",
    "Gives the fact and asks whom or what it is about. Weak: it told models that hold facts from others no better "
    "than chance, on a pool of SmolLM2.",
    "no row names a subject that its answer could be asked for",
    _reversed,
)
