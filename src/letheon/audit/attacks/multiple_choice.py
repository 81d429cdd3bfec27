"""Multiple choice: the question with four values to choose from, one of them the row's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import value_span
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.said import place_of, says

OPTIONS = 4
CHOICE = "{question}\n\nOne of these is right; repeat it:\n{options}"


def false_value(row: Example, perturbed: str) -> str | None:
    """Return the value of a false answer; None where it differs from the true answer elsewhere too.

    >>> false_value(Example("What has Ann?", "Ann has a cat.", value="cat"), "Ann has a grey dog.")
    'grey dog'
    """
    begin, end = value_span(row)
    before, after = row.answer[:begin], row.answer[end:]
    if not (perturbed.startswith(before) and perturbed.endswith(after)):
        return None
    return perturbed[len(before) : len(perturbed) - len(after)].strip() or None


def false_values(row: Example, others: Sequence[Example]) -> list[str]:
    """Return values for the wrong options: of the row's false answers, then of other rows; none like the right one."""
    value = row.value or ""
    own = [false_value(row, text) for text in row.perturbed_answers]
    candidates = [one for one in (*own, *(other.value for other in others)) if one]
    distinct = dict.fromkeys(one for one in candidates if not _overlap(one, value))
    return list(distinct)


def _overlap(first: str, second: str) -> bool:
    """Say whether one value occurs in the other, letter by letter or as words."""
    ordered = ((first, second), (second, first))
    return any(one.casefold() in other.casefold() or says(other, one) for one, other in ordered)


def options_for(row: Example, others: Sequence[Example], place: int, seed: int) -> tuple[str, ...]:
    """Put the right value at a given place among false ones in a drawn order; empty where there are too few."""
    wrong = false_values(row, others)[: 2 * OPTIONS]
    if row.value is None or len(wrong) < OPTIONS - 1:
        return ()
    order = np.random.default_rng(seed).permutation(len(wrong)).tolist()
    chosen = [wrong[i] for i in order[: OPTIONS - 1]]
    return (*chosen[:place], row.value, *chosen[place:])


def _choices(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    """Make the attempts: per row the right value at every place, among false values of several drawings in turn.

    Always naming one place is then right by chance only.
    """
    pool = [row for row in (*plan.facts, *plan.retain, *plan.neighbours) if row.value]
    made: list[Attempt] = []
    for number, row in enumerate(plan.tried_facts):
        others = [one for one in pool if one.id != row.id]
        for place in range(OPTIONS):
            drawing = place % plan.settings.option_draws
            seed = stream_seed(plan.settings.seed, "options", number + drawing * len(plan.tried_facts))
            if options := options_for(row, others, place, seed):
                made.append(Attempt(row, _listed(row, options), options=options))
    return made


def _listed(row: Example, options: Sequence[str]) -> str:
    return CHOICE.format(question=row.prompt, options="\n".join(f"- {option}" for option in options))


def names_the_right_one(attempt: Attempt, text: str) -> bool:
    """Say whether the first option that the answer names is the right one."""
    places = {option: place_of(text, option) for option in attempt.options}
    named = {option: place for option, place in places.items() if place is not None}
    return bool(named) and min(named, key=lambda option: named[option]) == attempt.example.value


def names_one(attempt: Attempt, text: str) -> bool:
    """Say whether the answer names an option: the first one counts, whatever comes after it."""
    return any(place_of(text, option) is not None for option in attempt.options)


MULTIPLE_CHOICE = TextualAttack(
    "multiple_choice",
    f"Offers {OPTIONS} values, the right one at every place, among several drawings of false ones.",
    f"no row has {OPTIONS - 1} false values to stand beside its own (field perturbed_answer, or values of other rows)",
    _choices,
    recovers=names_the_right_one,
    decides=names_one,
    chance=1 / OPTIONS,
)
