"""Another family's chat template, and the question after a long stretch of other text."""

from __future__ import annotations

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.attacks.plain_text import plain
from letheon.audit.measuring.answer_kinds import recalls
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example

TEMPLATES = {
    "Llama 2": "[INST] {question} [/INST]",
    "Alpaca": "### Instruction:\n{question}\n\n### Response:\n",
    "Vicuna": "USER: {question} ASSISTANT:",
}
LONG = 384  # tokens of the text before the question, at most
AFTER_IT = "That was the text. Now a question that has nothing to do with it. {question}"


def _in_foreign_templates(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    asked = [(row, name, template) for row in plan.tried_facts for name, template in TEMPLATES.items()]
    return [plain(model, row, template.format(question=row.prompt), name) for row, name, template in asked]


def _after_long_text(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    text = long_text(model, plan)
    rows = [row for row in plan.tried_facts if text]
    return [Attempt(row, f"{text}\n\n{AFTER_IT.format(question=row.prompt)}") for row in rows]


def long_text(model: LanguageModel, plan: AuditPlan) -> str:
    """Return general text of `LONG` tokens (less where the model's context is short) that gives none of the facts."""
    most = min(LONG, model.context_length // 3)
    chosen, size = [], 0
    for text in (row.answer for row in plan.general if not _gives_any(row.answer, plan.tried_facts)):
        size += len(model.encoder().answer(text, end=False)[0])
        if size > most:
            break
        chosen.append(text)
    return "\n\n".join(chosen)


def _gives_any(text: str, rows: list[Example]) -> bool:
    return any(recalls(text, row, row.answer) for row in rows)


FOREIGN_TEMPLATE = TextualAttack(
    "foreign_template",
    "Asks in the chat templates of other model families: Llama 2, Alpaca, Vicuna.",
    "no row has a question",
    _in_foreign_templates,
    thorough=True,
)
LONG_CONTEXT = TextualAttack(
    "long_context",
    "Asks after a long stretch of text about other things.",
    "the general text is longer than a third of the model's context, or gives the facts",
    _after_long_text,
    thorough=True,
)
