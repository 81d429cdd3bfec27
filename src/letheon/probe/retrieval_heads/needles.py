"""Needles in haystacks: prompts with one fact inserted into a long text, at several lengths and depths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import read_rows, short

HAYSTACK = "{haystack}"
QUESTION = "\n\nBased on the content of the book, Question: {question}\nAnswer:"


@dataclass(frozen=True)
class Needle:
    """A fact to be found.

    Attributes:
        text: the sentence that is inserted; it has nothing to do with the haystack.
        question: asks for the fact, and cannot be answered without the sentence.
        answer: the part of the sentence that answers the question.
    """

    text: str
    question: str
    answer: str

    def __post_init__(self) -> None:
        if not self.answer.strip() or self.answer not in self.text:
            raise InputError(f"answer {short(self.answer)} is not a part of the needle", "give the words that it holds")


# Made-up facts, so that no model knows them.
NEEDLES = (
    Needle(
        "The harbour of Velmora is guarded by forty silver lanterns and a blind grey heron.",
        "What is the harbour of Velmora guarded by?",
        "forty silver lanterns and a blind grey heron",
    ),
    Needle(
        "The best way to cook a Tarnish pear is to bury it under warm sand for eleven nights.",
        "What is the best way to cook a Tarnish pear?",
        "bury it under warm sand for eleven nights",
    ),
    Needle(
        "Captain Odessa Quill keeps her only map inside a hollow clarinet made of yellow glass.",
        "Where does Captain Odessa Quill keep her only map?",
        "inside a hollow clarinet made of yellow glass",
    ),
    Needle(
        "The winner of the Brindle race receives seven copper spoons and a goat named Marmalade.",
        "What does the winner of the Brindle race receive?",
        "seven copper spoons and a goat named Marmalade",
    ),
    Needle(
        "The password to the tower of Issen is purple walrus sleeping beside nine candles.",
        "What is the password to the tower of Issen?",
        "purple walrus sleeping beside nine candles",
    ),
)


def read_needles(path: str | Path) -> list[Needle]:
    """Read JSON lines {"needle", "question", "real_needle"}.

    Raises:
        InputError: a bad row or no rows; the message names file, row and field.
    """
    found = []
    for number, row in read_rows(path):
        where, fields = f"{path}, row {number}", ("needle", "question", "real_needle")
        values = [row.get(name) for name in fields] if isinstance(row, dict) else []
        if len(values) != 3 or not all(isinstance(value, str) and value for value in values):
            raise InputError(f"{where}: found {short(row)}", 'write {"needle", "question", "real_needle"}, three texts')
        found.append(Needle(*map(str, values)))
    if not found:
        raise InputError(f"{path} holds no rows", "give a file with at least one row")
    return found


@dataclass(frozen=True)
class Instance:
    """A prompt with one needle.

    Attributes:
        ids: tokens of the prompt.
        span: first and last (exclusive) token of the answer within the needle.
        answer: the answer's text.
        insert: token at which the needle was inserted.
        length, depth: tokens of the prompt as asked for, and where the needle is in per cent.
        needle: number of the needle.
    """

    ids: tuple[int, ...]
    span: tuple[int, int]
    answer: str
    insert: int = 0
    length: int = 0
    depth: float = 0.0
    needle: int = 0


def build_instances(
    model: LanguageModel,
    haystack: str,
    needles: Sequence[Needle] = NEEDLES,
    lengths: Sequence[int] = (256, 512, 1024, 1900),
    depths: Sequence[float] = (0, 25, 50, 75, 100),
) -> list[Instance]:
    """Build one prompt per length, depth and needle.

    The needle is inserted at int(n * depth / 100) of the haystack's n tokens, moved back to the nearest end of a
    sentence. The haystack is repeated if it is too short. Tokens are joined, so the answer's span is exact.

    Raises:
        InputError: a length that the model or the needle does not allow, or an empty haystack.
    """
    tokenizer = model.tokenizer
    straw = _tokens(tokenizer, haystack.strip() + "\n\n")
    if not haystack.strip():
        raise InputError("the haystack is empty", "give a text of some hundred words")
    longest = max(lengths)
    if longest > model.context_length:
        raise InputError(
            f"length {longest} asked for, {model.name} takes {model.context_length}", "use shorter lengths"
        )
    straw = straw * (longest // len(straw) + 1)
    found = []
    for number, needle in enumerate(needles):
        head, tail = _frame(model, needle.question)
        inner, (start, stop) = _needle_tokens(tokenizer, needle)
        for length, depth in product(lengths, depths):
            room = length - len(head) - len(tail) - len(inner)
            if room < 1:
                raise InputError(f"length {length} leaves no room for a haystack", f"use at least {length - room + 1}")
            place = _sentence_end(tokenizer, straw[:room], depth)
            insert = len(head) + place
            ids = (*head, *straw[:place], *inner, *straw[place:room], *tail)
            span = (insert + start, insert + stop)
            found.append(Instance(ids, span, needle.answer, insert, length, float(depth), number))
    return found


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _frame(model: LanguageModel, question: str) -> tuple[list[int], list[int]]:
    """Encode what stands before and after the haystack: the chat template's turn, or the plain question."""
    tokenizer, after = model.tokenizer, QUESTION.format(question=question)
    if not tokenizer.chat_template:
        return list(tokenizer("", add_special_tokens=True)["input_ids"]), _tokens(tokenizer, after)
    turn = [{"role": "user", "content": f"<book>{HAYSTACK}</book>{after}"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    head, _, tail = text.partition(HAYSTACK)
    return _tokens(tokenizer, head), _tokens(tokenizer, tail)


def _needle_tokens(tokenizer: Any, needle: Needle) -> tuple[list[int], tuple[int, int]]:
    """Encode a needle; return its tokens and the span of those that overlap its answer."""
    text = f" {needle.text}"
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    begin = text.rindex(needle.answer)
    end = begin + len(needle.answer)
    inside = [i for i, (start, stop) in enumerate(coded["offset_mapping"]) if start < end and stop > begin]
    return list(coded["input_ids"]), (inside[0], inside[-1] + 1)


def _sentence_end(tokenizer: Any, straw: Sequence[int], depth: float) -> int:
    """Return the number of tokens before the needle: up to the nearest full stop at or before the depth."""
    place = int(len(straw) * depth / 100)
    if depth >= 100:
        return len(straw)
    while place > 0 and "." not in tokenizer.decode([straw[place - 1]]):
        place -= 1
    return place
