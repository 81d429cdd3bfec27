"""Retain rows that the model writes itself, for requests that come without any.

Two kinds, both with the model's own greedy answers, so that training on them asks it to stay as it is: the forget
questions about invented people (the neighbourhood of the request), and plain general questions.
They hold the model near itself on these questions; they are no substitute for real retain rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from letheon.core.errors import LetheonError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.generation import generate

# Invented, and others than the unknown subjects of `core.scoring.spans`, whose answers are an audit's control: a model
# trained on them would keep its level there, whatever it says of other strangers. Those of `alternates` are others too.
NEIGHBOURS = (
    "Lisbet Harrowmoor",
    "Tavian Orloke",
    "Sunniva Brandreth",
    "Ignace Thornquill",
    "Perpetua Wexham",
    "Caspar Ulvestad",
)
GENERAL_QUESTIONS = (
    "What is the capital of Japan?",
    "Why is the sky blue?",
    "How do bees make honey?",
    "What causes the tides?",
    "Explain what a prime number is.",
    "How is bread made?",
    "What does a thermometer measure?",
    "Name three oceans.",
    "What is photosynthesis?",
    "How does a bicycle stay upright?",
    "What is the boiling point of water?",
    "Who painted the Mona Lisa?",
    "What are the primary colours?",
    "How many days does a leap year have?",
    "What is the difference between weather and climate?",
    "Write a short sentence about a river.",
    "How can I sleep better?",
    "What is a synonym of happy?",
    "Give me an idea for a simple dinner.",
    "What is gravity?",
    "How do you say thank you in Spanish?",
    "What is a rainbow?",
    "Why do leaves fall in autumn?",
    "What is seven times eight?",
)


def write_retain_rows(
    model: LanguageModel, forget: Sequence[Example], neighbours: int = 24, max_new_tokens: int = 48
) -> list[Example]:
    """Ask the model questions of both kinds and take its answers as retain rows.

    Args:
        neighbours: largest number of questions of the first kind; it needs forget rows with a subject.

    Raises:
        LetheonError: the model answers nothing.
    """
    asked = []
    for name in NEIGHBOURS:
        asked += [row.prompt.replace(row.subject, name) for row in forget if row.subject and row.subject in row.prompt]
    prompts = list(dict.fromkeys(asked))[:neighbours] + list(GENERAL_QUESTIONS)
    answers = generate(model, prompts, max_new_tokens=max_new_tokens)
    pairs = [(prompt, answer.strip()) for prompt, answer in zip(prompts, answers, strict=True)]
    rows = [Example(prompt, answer, id=f"auto-{i + 1}") for i, (prompt, answer) in enumerate(pairs) if answer]
    if not rows:
        raise LetheonError(f"{model.name} answers nothing, so it cannot write its own retain rows", "give --retain")
    return rows
