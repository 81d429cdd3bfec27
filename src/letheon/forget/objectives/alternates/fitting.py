"""How well an answer fits its own question, rather than any question of the request.

A model that may not give the fact can fall back on a word that it gives to everything ("Basketball" for a place of
birth). Such a word is as likely after the other questions; a fitting answer is not. Ours; the contrast is that of
domain-conditional pointwise mutual information (Holtzman et al., Surface Form Competition, arXiv 2104.08315). It is
made in plain text: in its chat template a model that was taught a few answers knows little else.

Decoding that may not go on with a banned word ends it with others' syllables ("20stager" for "20th"). The model itself
would not end the word so: an answer with such a word comes behind all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
from jaxtyping import Float

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoder
from letheon.core.scoring.answer_trees import score_tokens

# A token that continues a word, and is less likely, breaks it; an answer with a broken word fits less by BEHIND nats.
BROKEN, BEHIND = 0.1, 100.0
# Largest number of other questions that the answer is compared on; they are evenly spaced over the request.
OTHERS = 8


def in_plain_text(question: str, answer: str | None = None) -> str:
    """A question with its answer as plain text, or up to where the answer begins.

    >>> in_plain_text("Where?", "Here.")
    'Question: Where?\\nAnswer: Here.\\n\\n'
    >>> in_plain_text("Where?")
    'Question: Where?\\nAnswer:'
    """
    return f"Question: {question}\nAnswer:" + ("" if answer is None else f" {answer}\n\n")


def encoded_plainly(encoder: Encoder, text: str) -> tuple[int, ...]:
    """The tokens of a text without the chat template, after that which begins a sequence."""
    return (*encoder.prompt(""), *encoder.answer(text, end=False)[0])


def breaks_a_word(text: str, spans: Sequence[tuple[int, int]], logp: Float[np.ndarray, " tokens"]) -> bool:
    """Whether a token that goes on with a letter behind a letter or digit is less likely than `BROKEN`.

    Letters without a case are left out: scripts without spaces have no words that go on.

    Args:
        spans: where each token of the text begins and ends, in characters.
        logp: log-probability of each token (nats).
    """
    goes_on = (text[start - 1 : start].isalnum() and _has_case(text[start:end][:1]) for start, end in spans)
    return any(p < log(BROKEN) for p, inside in zip(logp, goes_on, strict=True) if inside)


def _has_case(letter: str) -> bool:
    return letter.lower() != letter.upper()


def fit_of_answers(model: LanguageModel, prompts: Sequence[str], place: int, answers: Sequence[str]) -> list[float]:
    """The log-probability of each answer to `prompts[place]`, plus what that is above its mean after other prompts.

    All in nats per token in plain text, end of line included; without other prompts the log-probability alone. Prompts
    after which an answer would exceed the context are left out; if it does so after its own, all answers fit alike. An
    answer fits by `BEHIND` less if a token that continues one of its words is less likely than `BROKEN`.
    """
    encoder = model.encoder()
    others = [prompt for prompt in dict.fromkeys(prompts) if prompt not in ("", prompts[place])]
    chosen = np.unique(np.linspace(0, max(len(others) - 1, 0), min(OTHERS, len(others))).round().astype(int))
    questions = (prompts[place], *(others[i] for i in chosen))
    own, *asked = (encoded_plainly(encoder, in_plain_text(question)) for question in questions)
    encoded = [encoder.answer(f" {text}\n", end=False) for text in answers]
    written = [ids for ids, _ in encoded]
    longest = max(map(len, written), default=0)
    if len(own) + longest > encoder.context_length:
        return [0.0] * len(answers)
    asked = [prompt for prompt in asked if len(prompt) + longest <= encoder.context_length]
    scores = score_tokens(model, [(prompt, written) for prompt in (own, *asked)])
    levels = np.array([[one.logp.mean() for one in found] for found in scores])
    broken = np.array(
        [
            breaks_a_word(f" {text}\n", spans, one.logp)
            for text, (_, spans), one in zip(answers, encoded, scores[0], strict=True)
        ]
    )
    return (levels[0] + (levels[0] - levels[1:].mean(0) if asked else 0.0) - BEHIND * broken).tolist()
