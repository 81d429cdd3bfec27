"""Running text for training: cut into pieces of a model's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example


def pieces(texts: Sequence[Example], tokens: int, model: LanguageModel | None) -> tuple[Example, ...]:
    """Texts in pieces of at most so many tokens (or as many as the model reads); whole where no model is given."""
    if model is None:
        return tuple(texts)
    return tuple(piece for text in texts for piece in _cut(text, min(tokens, model.context_length) - 1, model))


def _cut(text: Example, tokens: int, model: LanguageModel) -> Iterator[Example]:
    """Room is left for one more token: a cut may change how the tokenizer reads what stands at it."""
    spans = model.encoder().answer(text.answer, end=False)[1]
    for number, start in enumerate(range(0, len(spans), tokens), start=1):
        end = spans[start + tokens][0] if start + tokens < len(spans) else len(text.answer)
        piece = text.answer[spans[start][0] : end]
        if piece.strip():
            yield replace(text, answer=piece, id=f"{text.id}-{number}")
