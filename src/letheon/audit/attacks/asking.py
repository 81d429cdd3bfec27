"""Answers of a model to the attempts of all textual attacks, decoded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from letheon.audit.attacks.base import Attempt, TextualAttack, given_away
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.decoding import Ask, decode
from letheon.core.scoring.word_probability import PART

# What may follow, and continue the last word or number: letters, a digit, Katakana, a numeral, Hangul, a mark. What one
# of them completes the others do not.
ANY_MORE = ("zqxj", "0", "\u30f3\u30f3", "\u5341", "\ud558\ud558\ud558\ud558", "\u0301")


def ask(
    model: LanguageModel,
    attacks: Sequence[TextualAttack],
    plan: AuditPlan,
    max_new_tokens: int,
    only: float | None = None,
) -> dict[str, list[Attempt]]:
    """Answer the attempts of each attack, greedy ones together, sampled ones together.

    Attempts that would give the fact away by themselves are not made.

    Args:
        only: a temperature whose attacks alone are answered; their answers are those that all would get.
    """
    planned = [
        (attack, attempt)
        for attack in attacks
        for attempt in attack.attempts(model, plan)
        if not given_away(model, attempt)
    ]
    asked = [
        _asked(model, attack, attempt, attempt.limit or attack.max_new_tokens or max_new_tokens, number)
        for number, (attack, attempt) in enumerate(planned)
    ]
    seed = stream_seed(plan.settings.seed, "attacks")
    answering = [attack for attack in attacks if only is None or attack.temperature == only]
    for temperature in sorted({attack.temperature for attack in answering}):
        alike = [one for (attack, _), one in zip(planned, asked, strict=True) if attack.temperature == temperature]
        decode(model, alike, temperature, seed, plan.settings.batch_size)
    answered: dict[str, list[Attempt]] = {attack.name: [] for attack in answering}
    for (attack, attempt), one in zip(planned, asked, strict=True):
        if attack.name not in answered:
            continue
        text = _text(model, attempt, one.new)
        answered[attack.name].append(replace(attempt, answer=text, recovered=attack.recovers(attempt, text)))
    return answered


def _asked(model: LanguageModel, attack: TextualAttack, attempt: Attempt, limit: int, number: int) -> Ask:
    ids = attempt.ids or model.encoder().prompt(attempt.prompt)
    return Ask((*ids, *attempt.prefix), limit, partial(_is_decided, model, attack, attempt), number)


def _is_decided(model: LanguageModel, attack: TextualAttack, attempt: Attempt, new: list[int]) -> bool:
    """Say whether the outcome is certain however the answer goes on."""
    text = _text(model, attempt, new).rstrip(PART)
    return all(attack.decides(attempt, text + more) for more in ANY_MORE)


def _text(model: LanguageModel, attempt: Attempt, new: Sequence[int]) -> str:
    return str(model.tokenizer.decode([*attempt.prefix, *new], skip_special_tokens=True))
