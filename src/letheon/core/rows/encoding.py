"""Encode examples as tokens: chat template, answer and value tokens, padded batches.

A batch carries the counts of the effective batch that it belongs to, so that losses are means over that batch.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from letheon.core.errors import InputError
from letheon.core.rows.examples import Example, short
from letheon.core.scoring.said import says

if TYPE_CHECKING:
    import torch

# The unit that a loss averages over: rows, labelled tokens, tokens that carry the fact, the other labelled tokens, or
# all positions that predict a real token.
Unit = Literal["rows", "tokens", "value", "others", "positions"]
LONGEST_WORD = 64  # letters to either side of a value that may make another word of it


@dataclass(frozen=True)
class Encoded:
    """Token ids of one prompt and answer.

    Attributes:
        ids: the tokens, prompt first; the answer ends with the model's end of turn.
        start: index of the answer's first token.
        value: per token of the answer, whether it carries the fact; empty if that is unknown.
    """

    ids: tuple[int, ...]
    start: int
    value: tuple[bool, ...] = ()


def value_span(example: Example) -> tuple[int, int]:
    """Find the value's characters in the answer: its first mention outside the subject, else its first mention.

    A mention that does not say the value (art in party, see `core.scoring.said`) counts where there is no other.
    """
    value, answer = example.value or "", example.answer
    names = [match.span() for match in re.finditer(re.escape(example.subject), answer)] if example.subject else []
    places = [match.start() for match in re.finditer(re.escape(value), answer)]
    places = [at for at in places if not any(a < at + len(value) and at < b for a, b in names)] or places
    begin = next((at for at in places if _is_said(answer, value, at)), places[0])
    return begin, begin + len(value)


def _is_said(answer: str, value: str, begin: int) -> bool:
    """Whether the value is said where it stands, with the letters that it goes on with to both sides."""
    end = begin + len(value)
    before, behind = answer[max(begin - LONGEST_WORD, 0) : begin], answer[end : end + LONGEST_WORD]
    return says(re.findall(r"\w*$", before)[0] + value + re.findall(r"^\w*", behind)[0], value)


@dataclass
class Batch:
    """Right-padded rows.

    Attributes:
        input_ids: [batch, length].
        labels: [batch, length], -100 outside the answer.
        attention_mask: [batch, length].
        index: [batch] row numbers, by which cached reference values are looked up.
        value_mask: [batch, length], true on the tokens that carry the fact; all labels when `tokens="answer"`.
        totals: counts over the effective batch that this batch belongs to; losses are divided by them.
        lengths, value_lengths: number of labelled and of value tokens per row of the effective batch.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor
    index: torch.Tensor
    value_mask: torch.Tensor
    totals: Counter[Unit] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    value_lengths: list[int] = field(default_factory=list)

    @property
    def is_ghost(self) -> bool:
        """Whether it makes the passes that another process makes, and counts for nothing: its totals are infinite."""
        return self.totals["rows"] == math.inf

    def __len__(self) -> int:
        return len(self.input_ids)

    def count(self) -> Counter[Unit]:
        """Count this batch's rows, labelled tokens, value tokens, other labelled tokens and positions."""
        labelled = int((self.labels != -100).sum())
        value = int(self.value_mask.sum())
        positions = int(self.attention_mask.sum()) - len(self)
        counts: dict[Unit, int] = {"rows": len(self), "tokens": labelled, "value": value}
        return Counter({**counts, "others": labelled - value, "positions": positions})

    def mean(self, values: torch.Tensor, unit: Unit) -> torch.Tensor:
        """Return this batch's contribution to a mean over the effective batch's rows, tokens, ..."""
        return values.sum() / max(self.totals[unit], 1)


THOUGHT, THOUGHT_ENDS = "<think>", "</think>"


class Encoder:
    """Encodes examples for one model: chat template, end of turn, value spans.

    Without a chat template, a line break separates prompt and answer. A reasoning model is asked for its answer without
    a thought: by `enable_thinking=False` if its template knows that, else by closing the thought that the template
    opens. So training, likelihoods and decoding all see the answer at the same place.

    Args:
        tokenizer: the model's tokenizer.
        pad_id: the id that pads short rows.
        context_length: largest number of tokens per row.
    """

    def __init__(self, tokenizer: Any, pad_id: int, context_length: int) -> None:
        self.tokenizer, self.pad_id, self.context_length = tokenizer, pad_id, context_length
        self.end = self._end_of_turn()

    @property
    def thoughts(self) -> str:
        """How thoughts are left out, for reports; empty if the template has none."""
        template = self.tokenizer.chat_template
        if not template:
            return ""
        if "enable_thinking" in str(template):
            return "its thoughts are switched off (enable_thinking=False in its chat template)"
        if not self._rendered("question").rstrip().endswith(THOUGHT_ENDS):
            return ""
        return "the thought that its chat template opens is closed at once: answers are asked for without it"

    def _rendered(self, text: str) -> str:
        """Render a question with the chat template, up to where the answer begins."""
        turns = [{"role": "user", "content": text}]
        rendered: str = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        opened = rendered.rstrip().endswith(THOUGHT)
        return f"{rendered.rstrip()}\n\n{THOUGHT_ENDS}\n\n" if opened else rendered

    def _end_of_turn(self) -> str:
        """Return the template's text after an answer, up to and including the first end-of-sequence token."""
        eos = self.tokenizer.eos_token or ""
        if not self.tokenizer.chat_template:
            return eos
        probe = "\u2402answer\u2403"
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": probe}]
        after = self.tokenizer.apply_chat_template(turns, tokenize=False).split(probe)[-1]
        return after[: after.index(eos) + len(eos)] if eos and eos in after else after.rstrip("\n") or eos

    @lru_cache(maxsize=65536)  # noqa: B019  (an encoder lives as long as its model)
    def prompt(self, text: str) -> tuple[int, ...]:
        """Encode everything before the answer; for running text, the begin-of-sequence token if there is one."""
        if not text:
            ids = self.tokenizer("", add_special_tokens=True)["input_ids"]
            bos = self.tokenizer.bos_token_id
            return tuple(ids) or ((bos,) if bos is not None and not self.tokenizer.chat_template else ())
        if not self.tokenizer.chat_template:
            plain = text if text[-1].isspace() else text + "\n"
            return tuple(self.tokenizer(plain, add_special_tokens=True)["input_ids"])
        return tuple(self.tokenizer(self._rendered(text), add_special_tokens=False)["input_ids"])

    def answer(self, text: str, end: bool = True) -> tuple[list[int], list[tuple[int, int]]]:
        """Encode an answer (with the end of turn); return its tokens and their character spans."""
        full = text + (self.end if end else "")
        coded = self.tokenizer(full, add_special_tokens=False, return_offsets_mapping=True)
        return list(coded["input_ids"]), list(coded["offset_mapping"])

    def encode(self, example: Example) -> Encoded:
        """Encode the prompt and answer of an example, and mark its value's tokens if the value is known."""
        prompt = self.prompt(example.prompt)
        answer, spans = self.answer(example.answer, end=bool(example.prompt))
        value: tuple[bool, ...] = ()
        if example.value is not None:
            if example.value not in example.answer:
                raise InputError(
                    f"row {example.id}: value {short(example.value)} is not in the answer {short(example.answer)}",
                    "write the value as it stands in the answer, or leave it out",
                )
            begin, end = value_span(example)
            value = tuple(start < end and stop > begin for start, stop in spans)
        return Encoded((*prompt, *answer), len(prompt), value)

    def encode_all(self, examples: Sequence[Example], name: str = "row") -> list[Encoded]:
        """Encode examples.

        Raises:
            InputError: a row has more tokens than the model's context.
        """
        encoded = [self.encode(example) for example in examples]
        for example, row in zip(examples, encoded, strict=True):
            if len(row.ids) > self.context_length:
                raise InputError(
                    f"{name} {example.id}: {len(row.ids)} tokens, the model's context has {self.context_length}",
                    "shorten the row or split it",
                )
        return encoded

    def collate(self, rows: Sequence[Encoded], index: Iterable[int] = (), device: Any = None) -> Batch:
        """Pad rows on the right into one batch, whose totals count this batch alone."""
        import torch

        length = max(len(row.ids) for row in rows)
        input_ids = torch.full((len(rows), length), self.pad_id, dtype=torch.long)
        labels = torch.full((len(rows), length), -100, dtype=torch.long)
        mask = torch.zeros((len(rows), length), dtype=torch.long)
        value = torch.zeros((len(rows), length), dtype=torch.bool)
        for i, row in enumerate(rows):
            n = len(row.ids)
            input_ids[i, :n] = torch.tensor(row.ids)
            mask[i, :n] = 1
            start = max(row.start, 1)  # nothing predicts a row's first token
            labels[i, start:n] = input_ids[i, start:n]
            value[i, row.start : n] = torch.tensor(row.value) if row.value else True
        value &= labels != -100
        numbers = torch.tensor(list(index) or list(range(len(rows))))
        batch = Batch(input_ids, labels, mask, numbers, value)
        batch.totals = batch.count()
        batch.lengths = (labels != -100).sum(1).tolist()
        batch.value_lengths = value.sum(1).tolist()
        return to_device(batch, device) if device is not None else batch


def to_device(batch: Batch, device: Any) -> Batch:
    """Copy a batch to a device."""
    moved = {
        name: getattr(batch, name).to(device)
        for name in ("input_ids", "labels", "attention_mask", "index", "value_mask")
    }
    return replace(batch, **moved)


def with_totals(batches: Sequence[Batch]) -> list[Batch]:
    """Give every part of an effective batch the counts of the whole."""
    totals = sum((batch.count() for batch in batches), Counter())
    lengths = [length for batch in batches for length in batch.lengths]
    value_lengths = [length for batch in batches for length in batch.value_lengths]
    for batch in batches:
        batch.totals, batch.lengths, batch.value_lengths = totals, lengths, value_lengths
    return list(batches)
