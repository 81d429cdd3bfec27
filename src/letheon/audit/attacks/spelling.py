"""Other spellings: misspelt names, capitals, a name in Cyrillic letters.

A deletion that is tied to the tokens of a name may not hold for the same name written otherwise.
"""

from __future__ import annotations

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example

LATIN = "abcdefghijklmnopqrstuvwxyz"
SOUNDS = "а б к д е ф г х и дж к л м н о п к р с т у в в кс й з"
CYRILLIC = dict(zip(LATIN, SOUNDS.split(), strict=True))


def misspelt(name: str) -> str:
    """Return the name with a letter missing from each word of five letters or more: a doubled one, or the middle one.

    >>> misspelt("Wilhelmina Collins")
    'Wilhemina Colins'
    """
    return " ".join(_shorter(word) for word in name.split(" "))


def _shorter(word: str) -> str:
    if len(word) < 5:
        return word
    double = next((i for i in range(1, len(word)) if word[i] == word[i - 1]), None)
    gone = len(word) // 2 if double is None else double
    return word[:gone] + word[gone + 1 :]


def in_cyrillic(name: str) -> str:
    """Return the name letter by letter in Cyrillic.

    >>> in_cyrillic("Ann Lee")
    'Анн Лее'
    """
    return "".join(_letter(letter) for letter in name)


def _letter(letter: str) -> str:
    other = CYRILLIC.get(letter.lower(), letter)
    return other.capitalize() if letter.isupper() else other


def questions(row: Example) -> dict[str, str]:
    """Return one row's question in its other spellings, by variant."""
    spelt = {"capitals": row.prompt.upper()}
    if row.subject and row.subject in row.prompt:
        spelt["misspelt"] = row.prompt.replace(row.subject, misspelt(row.subject)).lower()
        spelt["Cyrillic"] = row.prompt.replace(row.subject, in_cyrillic(row.subject))
    return {name: text for name, text in spelt.items() if text != row.prompt}


def _otherwise_spelt(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [Attempt(row, text, variant=name) for row in plan.tried_facts for name, text in questions(row).items()]


SPELLING = TextualAttack(
    "spelling",
    "Misspells the subject in small letters, asks in capitals, writes the name in Cyrillic letters.",
    "no row has a question",
    _otherwise_spelt,
    thorough=True,
)
