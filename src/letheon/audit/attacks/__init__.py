"""Attacks that try to bring the forgotten facts back, one file per family; the order here is that of the report.

`base.py` defines an attack and says how to add one; relearning gives a curve and runs separately (`relearning.py`). The
package imports core, probe and the audit's plan, measurements and evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from letheon.audit.attacks.asking import ask
from letheon.audit.attacks.base import Attack, Attempt, MeasuredAttack, TextualAttack, Tried
from letheon.audit.attacks.conversation import SECOND_TURN, SECOND_TURN_AT_K, SYSTEM_PROMPT
from letheon.audit.attacks.foreign_template import FOREIGN_TEMPLATE, LONG_CONTEXT
from letheon.audit.attacks.framing import CONTEXT_HINT, IN_CONTEXT, PREFIX_INJECTION, ROLE_PLAY
from letheon.audit.attacks.leak import LEAK
from letheon.audit.attacks.lens import LOGIT_LENS
from letheon.audit.attacks.membership import MEMBERSHIP
from letheon.audit.attacks.multiple_choice import MULTIPLE_CHOICE
from letheon.audit.attacks.open_requests import OPEN_REQUEST
from letheon.audit.attacks.own_template import OWN_TEMPLATE
from letheon.audit.attacks.plain_text import PLAIN_TEXT, PLAIN_TEXT_AT_K
from letheon.audit.attacks.prefill import AFFIRMATIVE, FIRST_TOKEN, VALUE_PREFIX
from letheon.audit.attacks.probing import PROBING
from letheon.audit.attacks.reverse_query import REVERSE_QUERY
from letheon.audit.attacks.running_text import TEXT_ASKED, TEXT_AT_K, TEXT_BEGUN, TEXT_LAST_WORDS
from letheon.audit.attacks.soft_prompt import SOFT_PROMPT
from letheon.audit.attacks.spelling import SPELLING
from letheon.audit.attacks.steering import STEERING
from letheon.audit.attacks.wordings import CROSS_LINGUAL, PARAPHRASE, SYNONYMS
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel

# The results of attacks by name, and what finds some of them: takes the model, the plan and the limit of an answer.
Found = dict[str, list[Attempt] | Tried]
Way = Callable[[LanguageModel, AuditPlan, int], Found]

ATTACKS: tuple[Attack, ...] = (
    PARAPHRASE,
    SYNONYMS,
    CROSS_LINGUAL,
    SPELLING,
    FIRST_TOKEN,
    VALUE_PREFIX,
    AFFIRMATIVE,
    PREFIX_INJECTION,
    ROLE_PLAY,
    CONTEXT_HINT,
    IN_CONTEXT,
    SYSTEM_PROMPT,
    SECOND_TURN,
    LONG_CONTEXT,
    PLAIN_TEXT,
    OWN_TEMPLATE,
    FOREIGN_TEMPLATE,
    OPEN_REQUEST,
    TEXT_BEGUN,
    TEXT_LAST_WORDS,
    TEXT_ASKED,
    MULTIPLE_CHOICE,
    REVERSE_QUERY,
    LEAK,
    PLAIN_TEXT_AT_K,
    SECOND_TURN_AT_K,
    TEXT_AT_K,
    SOFT_PROMPT,
    MEMBERSHIP,
    LOGIT_LENS,
    PROBING,
    STEERING,
)


def chosen(plan: AuditPlan) -> list[Attack]:
    """Return the attacks that the settings ask for."""
    settings = plan.settings
    return [one for one in ATTACKS if settings.thorough or not one.thorough or one.name in settings.also]


def ways_of_attack(plan: AuditPlan) -> list[Way]:
    """Return the chosen attacks in pieces that do not depend on each other.

    Textual attacks of one temperature are one piece, since their answers are decoded together; each measured attack is
    one.
    """
    attacks = chosen(plan)
    textual = [attack for attack in attacks if isinstance(attack, TextualAttack)]
    asked = [partial(_ask, textual, temperature) for temperature in sorted({attack.temperature for attack in textual})]
    return [*asked, *(partial(_run, attack) for attack in attacks if isinstance(attack, MeasuredAttack))]


def _ask(attacks: Sequence[TextualAttack], temperature: float, model: LanguageModel, plan: AuditPlan, n: int) -> Found:
    return {name: tries for name, tries in ask(model, attacks, plan, n, temperature).items() if tries}


def _run(attack: MeasuredAttack, model: LanguageModel, plan: AuditPlan, _: int) -> Found:
    tried = attack.run(model, plan)
    return {} if tried is None else {attack.name: tried}


def in_order(found: Iterable[Found], plan: AuditPlan) -> Found:
    """Put the results of all pieces together, in the report's order."""
    results = {name: result for piece in found for name, result in piece.items()}
    return {attack.name: results[attack.name] for attack in chosen(plan) if attack.name in results}
