"""The forms of question in which a deletion trained, read from what the model's folder says of its method.

A model that was trained on questions with options withstands an attack that offers options more easily than attacks of
other kinds: low values there are weak evidence.
"""

from __future__ import annotations

import re
from pathlib import Path

from letheon.core.errors import LetheonError
from letheon.forget.recipe import Recipe, read_method

# Attacks that ask in a form that `forget.objectives.alternates.question_forms` trains on, in other words.
ASKED_IN: dict[str, tuple[str, ...]] = {
    "options": ("multiple_choice",),
    "begun": ("plain_text", "plain_text_at_k", "first_token_prefix", "value_prefix"),
    "bare": ("plain_text", "plain_text_at_k"),
    "later": ("text_last_words",),
}
IN_CARD = re.compile(r"^Method `([^`\n]+)`", re.MULTILINE)


def method_in(folder: str | Path) -> str:
    """Return the method that a model's folder names in its card; empty where it names none."""
    if not str(folder):
        return ""
    card = Path(folder) / "README.md"
    try:
        found = IN_CARD.search(card.read_text(encoding="utf-8")) if card.is_file() else None
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def forms_of_method(method: str) -> tuple[str, ...]:
    """Return the forms that a method trains on, beside the questions as they stand; none where it is not known.

    The card of a deep run names the distillation after the method (`METHOD, then undo`); the forms are the method's.
    Where a card names no forms they are today's default, also for a model that an earlier version made.
    """
    first = method.partition(", then ")[0]
    try:
        recipe = read_method(first) if first else None
    except LetheonError:  # a plug-in's method, which is not installed here
        return ()
    forms = recipe.option("forms") if isinstance(recipe, Recipe) else None
    return tuple(forms.split()) if isinstance(forms, str) else ()


def form_of(attack: str, forms: tuple[str, ...]) -> str | None:
    """Return the trained forms in which an attack asks, with "and" between them; None where there is none."""
    return " and ".join(form for form in forms if attack in ASKED_IN.get(form, ())) or None
