"""Running text of benchmarks: read from tables of texts, and cut into pieces of a model's tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.measure.tables import text_of


def texts_of(where: str, rows: Sequence[Mapping[str, Any]], prefix: str) -> list[Example]:
    """Return the field `text` of a table's rows as running text, with the ids `PREFIX-1`, `PREFIX-2`, ...

    Raises:
        InputError: a row has no text; the message names it.
    """
    return [
        Example("", text_of(row, "text", f"{where}, row {i}"), f"{prefix}-{i}") for i, row in enumerate(rows, start=1)
    ]


def pieces(texts: Sequence[Example], tokens: int, model: LanguageModel | None) -> tuple[Example, ...]:
    """Cut texts into pieces of at most `tokens` tokens, or the model's context; without a model leave them whole."""
    if model is None:
        return tuple(texts)
    return tuple(piece for text in texts for piece in _cut(text, min(tokens, model.context_length) - 1, model))


def _cut(text: Example, tokens: int, model: LanguageModel) -> Iterator[Example]:
    """Cut one text; `tokens` leaves room for one token more, since a cut may change how the text is tokenised there."""
    spans = model.encoder().answer(text.answer, end=False)[1]
    for number, start in enumerate(range(0, len(spans), tokens), start=1):
        end = spans[start + tokens][0] if start + tokens < len(spans) else len(text.answer)
        piece = text.answer[spans[start][0] : end]
        if piece.strip():
            yield replace(text, answer=piece, id=f"{text.id}-{number}")
