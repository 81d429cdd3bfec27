"""Forgetting without changing weights: a context before the question, or a filter on the answer.

No weight changes, so whoever holds the weights still holds the knowledge: these are the baselines that a method must
beat, and what an audit must not be deceived by.

Papers:  Pawelczyk et al., In-Context Unlearning, arXiv 2310.07579; Thaker et al., Guardrail Baselines for Unlearning in
         LLMs, arXiv 2403.03329.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.generation import generate
from letheon.forget.request import Request

REFUSAL = "I'm sorry, I cannot help with that."


@dataclass(frozen=True)
class InContext:
    """In-context unlearning: every question is preceded by a forget question with a false answer and by true others.

    Attributes:
        request: its first false answer (field `perturbed_answers`), or else another forget row's answer, is shown.
        others: number of retain rows that follow with their true answers (2 to 6 in the paper).
    """

    request: Request
    others: int = 4
    seed: int = 0

    def prompt(self, question: str) -> str:
        """Put the context before a question; the same question always gets the same context."""
        draw = random.Random(stream_seed(self.seed, question))
        forget = list(self.request.forget)
        shown = next((row for row in forget if row.prompt == question), draw.choice(forget))
        wrong = shown.perturbed_answers or tuple(row.answer for row in forget if row.answer != shown.answer)
        kept = list(self.request.retain)
        true = draw.sample(kept, min(self.others, len(kept)))
        lines = [_line(shown.prompt, draw.choice(wrong)) if wrong else "", *(_line(r.prompt, r.answer) for r in true)]
        return "\n".join([*filter(None, lines), question])

    def answer(self, model: LanguageModel, prompts: Sequence[str], max_new_tokens: int = 64) -> list[str]:
        """Answer greedily under the context."""
        return generate(model, [self.prompt(prompt) for prompt in prompts], max_new_tokens=max_new_tokens)


@dataclass(frozen=True)
class Guardrail:
    """An output filter: an answer that mentions a subject or a value of the forget rows is replaced by a refusal."""

    request: Request
    refusal: str = REFUSAL

    def blocks(self, text: str) -> bool:
        """Whether a text names a subject or value of the forget rows, as whole words, in any case."""
        return any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in self._words())

    def answer(self, model: LanguageModel, prompts: Sequence[str], max_new_tokens: int = 64) -> list[str]:
        """Answer greedily; a blocked answer is replaced by the refusal."""
        answers = generate(model, prompts, max_new_tokens=max_new_tokens)
        asked = zip(prompts, answers, strict=True)
        return [self.refusal if self.blocks(prompt) or self.blocks(answer) else answer for prompt, answer in asked]

    def _words(self) -> set[str]:
        return {word for row in self.request.forget for word in _named(row)}


def _named(row: Example) -> list[str]:
    return [word for word in (row.subject, row.value) if word]


def _line(question: str, answer: str) -> str:
    return f"{question} {answer}"
