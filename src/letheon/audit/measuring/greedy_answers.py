"""Greedy decoding that reuses tokens already known from teacher-forced scoring.

If every token of a candidate (the expected answer, what another model answered) is the model's first choice given the
tokens before it, then that candidate is the greedy answer, and nothing need be decoded. If only its beginning is, then
decoding starts there. Answers of a model that still knows its rows thus cost one scoring pass.
Running text (a row without a prompt) is continued from its first half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import value_span
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import AnswerScore
from letheon.core.scoring.decoding import Ask, decode

MOST_NEW_TOKENS = 200

# A text that may be the answer, with its scores under the model that is asked.
Candidate = tuple[str, AnswerScore]


@dataclass(frozen=True)
class Start:
    """The known beginning of an answer.

    Attributes:
        ids: its first tokens.
        whole: whether that is all of it.
        given: the first half of running text, which is not part of the answer.
    """

    ids: tuple[int, ...] = ()
    whole: bool = False
    given: str = ""


def answer_all(
    model: LanguageModel,
    examples: Sequence[Example],
    max_new_tokens: int,
    *,
    candidates: Sequence[Sequence[Candidate]] = (),
    batch_size: int = 32,
) -> list[str]:
    """Return the greedy answer to each row.

    Args:
        max_new_tokens: limit of an answer, tokens; tokens known from a candidate may come on top of it.
        candidates: for each row, texts with their scores under this model.
        batch_size: rows decoded together.
    """
    known = candidates or [()] * len(examples)
    starts = [_start(model, row, scored, max_new_tokens) for row, scored in zip(examples, known, strict=True)]
    texts = [model.tokenizer.decode(start.ids, skip_special_tokens=True) for start in starts]
    open_rows = [i for i, start in enumerate(starts) if not start.whole]
    if open_rows:
        prompts = [model.encoder().prompt(examples[i].prompt) for i in open_rows]
        asked = [Ask((*ids, *starts[i].ids), max_new_tokens) for i, ids in zip(open_rows, prompts, strict=True)]
        decode(model, asked, batch_size=batch_size)
        for i, one in zip(open_rows, asked, strict=True):
            texts[i] = model.tokenizer.decode([*starts[i].ids, *one.new], skip_special_tokens=True)
    return [text[len(start.given) :] for text, start in zip(texts, starts, strict=True)]


def _start(model: LanguageModel, example: Example, candidates: Sequence[Candidate], limit: int) -> Start:
    """Return the longest beginning of the greedy answer that a candidate shares."""
    encoder = model.encoder()
    if not example.prompt:
        given = first_half(model, example)
        return Start(tuple(encoder.answer(given, end=False)[0]), given=given)
    best = Start()
    for text, score in candidates:
        ids = encoder.answer(text)[0]
        wrong = np.flatnonzero(~score.correct)
        agreed = min(int(wrong[0]) if len(wrong) else len(ids), limit)
        if agreed > len(best.ids):
            best = Start(tuple(ids[:agreed]), whole=agreed in (len(ids), limit))
    return best


def answer_limit(model: LanguageModel, examples: Sequence[Example]) -> int:
    """Return the limit of an answer, tokens: twice the longest expected answer and 8 more, at most 200."""
    encoder = model.encoder()
    longest = max((len(encoder.answer(row.answer)[0]) for row in examples), default=0)
    return min(2 * longest + 8, MOST_NEW_TOKENS)


def expected_answer(model: LanguageModel, example: Example) -> str:
    """Return the text that a greedy answer is compared with: the answer, or what follows the given half of a text.

    Of a long text it is as much as an answer may hold.
    """
    if example.prompt:
        return example.answer
    rest = example.answer[len(first_half(model, example)) :]
    spans = model.encoder().answer(rest, end=False)[1][:MOST_NEW_TOKENS]
    return rest[: spans[-1][1]] if spans else example.answer


def first_half(model: LanguageModel, example: Example) -> str:
    """Return the first half of running text, by tokens, or what precedes its value if that is less.

    It is empty for a row with a prompt.
    """
    if example.prompt:
        return ""
    spans = model.encoder().answer(example.answer, end=False)[1]
    half = spans[(len(spans) + 1) // 2 - 1][1] if spans else 0
    before = value_span(example)[0] if example.value is not None else half
    return example.answer[: min(half, before) or half]
