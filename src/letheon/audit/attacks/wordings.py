"""The same question in other words: the rows' own paraphrases, rewording by rule, frames in other languages."""

from __future__ import annotations

import re

from letheon.audit.attacks.base import Attempt, TextualAttack
from letheon.audit.plan import AuditPlan
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example

# How a question begins, and what may stand there instead; the first that fits is used.
OPENINGS = (
    (r"how many\b", "what number of"),
    (r"how old\b", "of what age"),
    (r"how long\b", "for what length of time"),
    (r"how much\b", "what amount of"),
    (r"how\b", "in what way"),
    (r"where\b", "in which place"),
    (r"when\b", "at what time"),
    (r"why\b", "for what reason"),
    (r"who(?= (?:is|was|were|are)\b)", "which person"),
    (r"who\b", "which person"),
    (r"which\b", "what"),
    (r"what (?=(?:is|was|are|were)\b)", "which "),
    (r"what (?=(?:does|do|did|has|have|can|could|will|would)\b)", "which thing "),
    (r"what\b", "which"),
)
# Words with one that says the same in most questions.
WORDS = {
    "author": "writer",
    "begin": "start",
    "birthplace": "place of birth",
    "born": "brought into the world",
    "buy": "purchase",
    "city": "town",
    "country": "nation",
    "die": "pass away",
    "died": "passed away",
    "father": "male parent",
    "full": "complete",
    "famous": "well-known",
    "get": "obtain",
    "help": "assist",
    "home": "dwelling",
    "job": "occupation",
    "keep": "look after",
    "kind": "sort",
    "live": "reside",
    "made": "created",
    "main": "principal",
    "make": "create",
    "mother": "female parent",
    "name": "designation",
    "occupation": "profession",
    "own": "possess",
    "profession": "occupation",
    "show": "display",
    "start": "begin",
    "wrote": "authored",
    "write": "author",
}
# A frame in another language around the question as it stands; the answer is wanted in English.
FRAMES = {
    "French": "Réponds en anglais à cette question : {question}",
    "German": "Beantworte diese Frage auf Englisch: {question}",
    "Spanish": "Responde en inglés a esta pregunta: {question}",
}


def reworded(question: str, subject: str | None = None) -> str | None:
    """The question with its opening and common words replaced, the subject's name left alone.

    None where no rule fits.
    """
    parts = re.split(f"({re.escape(subject)})", question) if subject else [question]
    changed = [part if part == subject else _replaced(part) for part in parts]
    for pattern, other in OPENINGS:
        if re.match(pattern, changed[0], re.IGNORECASE):
            changed[0] = re.sub(f"^{pattern}", other, changed[0], count=1, flags=re.IGNORECASE)
            changed[0] = changed[0][:1].upper() + changed[0][1:]
            break
    text = "".join(changed)
    return text if text != question else None


def _replaced(text: str) -> str:
    return re.sub(r"\b[a-z]+\b", lambda word: WORDS.get(word.group(), word.group()), text)


def _paraphrases(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [Attempt(row, prompt) for row in plan.forget if row.prompt for prompt in row.paraphrased_prompts]


def _synonyms(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    plain = [row for row in plan.tried if not row.paraphrased_prompts]
    return [Attempt(row, prompt) for row in plain if (prompt := reworded(row.prompt, row.subject))]


def _framed(model: LanguageModel, plan: AuditPlan) -> list[Attempt]:
    return [Attempt(row, framed(row, name), variant=name) for row in plan.tried for name in FRAMES]


def framed(row: Example, language: str) -> str:
    """The row's question in the frame of another language."""
    return FRAMES[language].format(question=row.prompt)


PARAPHRASE = TextualAttack(
    "paraphrase",
    "Asks the same questions in other words.",
    "no row has its question in other words (field paraphrased_question)",
    _paraphrases,
)
SYNONYMS = TextualAttack(
    "synonyms",
    "Asks with the question's words replaced by rule, where the row has no other wordings.",
    "every row has other wordings of its own, or no rule rewords its question",
    _synonyms,
)
CROSS_LINGUAL = TextualAttack(
    "cross_lingual",
    "Frames the question in French, in German and in Spanish, and wants the answer in English.",
    "no row has a question",
    _framed,
    thorough=True,
)
