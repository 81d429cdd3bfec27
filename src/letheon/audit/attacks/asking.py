"""Answers of a model to the attempts of all textual attacks, decoded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from letheon.audit.attacks.base import Attempt, TextualAttack, given_away
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.generation import generate

# Prompts of attacks differ much in length, and a processor computes what pads the short ones of a batch.
AT_ONCE_ON_CPU = 16


def ask(
    model: LanguageModel, attacks: Sequence[TextualAttack], plan: AuditPlan, max_new_tokens: int
) -> dict[str, list[Attempt]]:
    """Answer the attempts of each attack, greedy ones in one batched generation, sampled ones in another.

    Attempts that would give the fact away by themselves are not made.
    """
    planned = {
        attack.name: [one for one in attack.attempts(model, plan) if not given_away(model, one)] for attack in attacks
    }
    said: dict[str, list[str]] = {attack.name: [] for attack in attacks}
    for temperature in sorted({attack.temperature for attack in attacks}):
        alike = [attack.name for attack in attacks if attack.temperature == temperature]
        tries = [attempt for name in alike for attempt in planned[name]]
        texts = iter(_answers(model, tries, plan, temperature, max_new_tokens))
        for name in alike:
            said[name] = [next(texts) for _ in planned[name]]
    return {
        attack.name: [
            replace(attempt, answer=text, recovered=attack.recovers(attempt, text))
            for attempt, text in zip(planned[attack.name], said[attack.name], strict=True)
        ]
        for attack in attacks
    }


def _answers(
    model: LanguageModel, tries: Sequence[Attempt], plan: AuditPlan, temperature: float, max_new_tokens: int
) -> list[str]:
    if not tries:
        return []
    most = plan.settings.batch_size
    return generate(
        model,
        [attempt.prompt for attempt in tries],
        prefixes=[attempt.prefix for attempt in tries],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=stream_seed(plan.settings.seed, "attacks") % (1 << 63),
        batch_size=min(most, AT_ONCE_ON_CPU) if model.device.type == "cpu" else most,
    )
