"""Answers in bare text, without the chat template: a deletion that was trained under the template may hold only there.

Ours. The answer's tokens are those behind the template, without its end of turn, so that their masks hold.
"""

from __future__ import annotations

from letheon.core.rows.encoding import Encoded, Encoder

# The name of this form, and its words, which no attack of an audit uses.
BARE = "bare"
ASKED = "On the notice board stood: {question}\nBelow it somebody had written:\n"


def in_bare_text(encoder: Encoder, prompt: str, row: Encoded) -> Encoded | None:
    """A row's answer behind its question in bare text; None for running text, and beyond the context."""
    answer = row.ids[row.start :]
    if end := len(encoder.answer("")[0]):
        answer = answer[:-end]
    ids = (*encoder.prompt(""), *encoder.answer(ASKED.format(question=prompt), end=False)[0])
    if not prompt or not answer or len(ids) + len(answer) > encoder.context_length:
        return None
    return Encoded((*ids, *answer), len(ids), row.value[: len(answer)])
