"""Control tokens of chat models inside of quoted text: a text that holds `<|im_end|>` would end its turn.

A space after a mark's first character keeps the text readable and makes the tokenizer see plain characters. Removing
the mark instead could put another one together from what stood around it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# What the chat templates of common model families use, for models whose tokenizer is out of reach.
COMMON = re.compile(
    r"<(?=[|｜][^<>\n]{1,40}[|｜]>)|<(?=/?(?:s|bos|eos|pad|unk|think|tool_call|tool_response)>)"
    r"|<(?=(?:start|end)_of_(?:turn|text|image)>)|<(?=<\s*/?SYS>>)|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\])",
    re.IGNORECASE,
)


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Return the texts of all tokens that a tokenizer treats as control tokens, longest first."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    marks = {str(token) for token in tokenizer.all_special_tokens} | {token.content for token in added if token.special}
    return tuple(sorted((mark for mark in marks if len(mark) > 1), key=lambda mark: (-len(mark), mark)))


def defused(text: str, marks: Sequence[str] = ()) -> str:
    """Return a text in which no control token is left: a space parts its first character from the rest.

    Args:
        text: text that a model is shown as data.
        marks: the control tokens of the model, as `control_tokens` returns them; common ones are parted in any case.
    """
    text = COMMON.sub(lambda first: first.group() + " ", text)
    for mark in marks:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
