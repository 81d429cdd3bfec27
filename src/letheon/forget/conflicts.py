"""Requests that no method can serve whole: retain rows that state a fact to be forgotten, or share all of them.

Ours, of no paper. The texts alone decide. The findings are warnings: the other facts can still be forgotten.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from letheon.core.rows.examples import Example
from letheon.core.scoring.spans import WORD
from letheon.forget.objectives.alternates.strangers import gives, guess_subjects, names_in, words_of_facts
from letheon.forget.request import Request

SHOWN = 5


def conflicts(request: Request) -> list[str]:
    """Sentences that say which forget rows cannot be forgotten while which retain rows are kept.

    A retain row stands in the way of a fact if it contains the subject and every word that carries the fact. A retained
    subject stands in the way of the whole request if the same questions about it have the same answers.
    """
    subjects = guess_subjects(request.forget, ())
    facts = words_of_facts(request.forget, request.retain)
    stated: dict[str, list[str]] = {}
    twins: dict[str, dict[str, str]] = defaultdict(dict)
    for row, subject, words in zip(request.forget, subjects, facts, strict=True):
        if not words:  # nothing carries the fact: every row would contain all of its words
            continue
        answered = [kept for kept in request.retain if all(gives(kept.answer, [word]) for word in words)]
        if stating := [kept.id for kept in answered if _is_about(kept, row, subject)]:
            stated[row.id] = stating
        for kept in answered:
            for name in {*names_in(kept.prompt), *([kept.subject] if kept.subject else [])} - {subject}:
                if subject and kept.prompt.replace(name, subject) == row.prompt:
                    twins[name].setdefault(row.id, kept.id)
    found = [
        f"retain rows {_listed(by)} state the fact of forget row {row}: it cannot be forgotten while they are kept"
        for row, by in stated.items()
    ]
    for name, rows in twins.items():
        if len(rows) == len(request.forget):
            found.append(
                f"{name} shares all {len(rows)} facts with the one to be forgotten (retain rows "
                f"{_listed(list(rows.values()))}): a model that keeps these can still guess those"
            )
    return found


def _is_about(kept: Example, row: Example, subject: str | None) -> bool:
    """Whether a retain row speaks of a forget row's subject; without one, whether it asks the same words."""
    if subject:
        return subject in kept.prompt or subject in kept.answer
    asked, told = ({word.lower() for word in WORD.findall(one.prompt)} for one in (row, kept))
    return bool(asked) and asked <= told


def _listed(ids: Sequence[str]) -> str:
    rest = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + rest
