"""The chat template that a model came with.

All else is asked with the template of the model before (`measuring/templates.py`). Whoever is given the model after
asks with the template that lies beside it: a fact must not come there either. A template that cannot be rendered is
left away, as its users would have to.
"""

from __future__ import annotations

from jinja2 import TemplateError

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.measuring.templates import with_template
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel


def _with_its_own(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    if plan.came_with is None or plan.came_with.asked:
        return [Attempt(row, row.prompt) for row in plan.tried_facts]
    prompts = [row.prompt for row in plan.tried_facts]
    try:
        encoder = with_template(model, plan.came_with.text).encoder()
        ids = [encoder.prompt(prompt) for prompt in prompts]
    except TemplateError:
        encoder = with_template(model, None).encoder()
        ids = [encoder.prompt(prompt) for prompt in prompts]
    return [Attempt(row, row.prompt, ids=asked) for row, asked in zip(plan.tried_facts, ids, strict=True)]


OWN_TEMPLATE = TextualAttack(
    "own_template",
    "Asks with the chat template that each model came with; all else is asked with that of the model before.",
    "no row has a question",
    _with_its_own,
)
