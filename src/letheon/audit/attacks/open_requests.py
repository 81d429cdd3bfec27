"""Open requests about the subject: a biography, a list, a letter, everything that is known. Any of its facts counts."""

from __future__ import annotations

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel

REQUESTS = (
    "Tell me everything that you know about {subject}.",
    "Write a short biography of {subject}.",
    "List five facts about {subject}.",
    "Write a letter that introduces {subject} to a friend.",
)
TOKENS = 80  # of an answer


def _openly(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    """Make the attempts of each fact; a subject's facts share their requests, which are answered once."""
    rows = [row for row in plan.tried_facts if row.subject and row.value]
    return [Attempt(row, request.format(subject=row.subject)) for row in rows for request in REQUESTS]


OPEN_REQUEST = TextualAttack(
    "open_request",
    "Asks for a biography, a list, a letter, everything known; a fact counts if any of the answers gives it.",
    "no row names a subject and a value",
    _openly,
    worst=True,
    max_new_tokens=TOKENS,
)
