"""The texts that a steering is fitted on: a file of lines, or rows with prompt and answer, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example, read_examples, read_lines

LEAST = 4


@dataclass(frozen=True)
class Contrast:
    """Texts of the wanted behaviour and of the unwanted one.

    Attributes:
        toward: texts to steer toward.
        away: texts to steer away from; methods that need pairs pair them in order.
    """

    toward: Sequence[Example]
    away: Sequence[Example]

    def __post_init__(self) -> None:
        toward, away = (sorted((row.prompt, row.answer) for row in rows) for rows in (self.toward, self.away))
        if toward == away:
            raise InputError("the two sets of texts are equal", "give texts that differ in the wanted behaviour")
        for name, rows in (("toward", self.toward), ("from", self.away)):
            if len(rows) < LEAST:
                raise InputError(f"--{name} has {len(rows)} texts", f"give at least {LEAST}")

    @property
    def paired(self) -> bool:
        """Whether each text has a partner at the same place of the other set."""
        return len(self.toward) == len(self.away)

    def demand_pairs(self, method: str) -> None:
        """Raise an `InputError` if a method needs pairs and the sets differ in size."""
        if not self.paired:
            raise InputError(
                f"{method} needs pairs, found {len(self.toward)} and {len(self.away)} texts",
                "write both files so that equal line numbers form a pair",
            )


def read_texts(path: Path) -> list[Example]:
    """Read texts: one per line, or with the suffix .json or .jsonl rows with `prompt` and `answer`.

    Raises:
        InputError: the file is missing, empty or not UTF-8.
    """
    if path.suffix in (".json", ".jsonl"):
        return read_examples(path)
    texts = [line for line in read_lines(path) if line]
    if not texts:
        raise InputError(f"{path} holds no text", "write one text per line")
    return [Example("", text, id=f"line-{number}") for number, text in enumerate(texts, start=1)]


def read_contrast(toward: Path, away: Path) -> Contrast:
    """Read both sets of texts."""
    return Contrast(read_texts(toward), read_texts(away))


def token_rows(model: LanguageModel, rows: Sequence[Example], most: int = 256) -> list[list[int]]:
    """Encode texts as a model reads them, cut after `most` tokens; an answer has no end of turn.

    A prompt goes through the chat template; a text without one is plain.
    """
    encoder = model.encoder()
    ids = [[*encoder.prompt(row.prompt), *encoder.answer(row.answer, end=False)[0]][:most] for row in rows]
    empty = next((row.id for row, tokens in zip(rows, ids, strict=True) if not tokens), None)
    if empty is not None:
        raise InputError(f"the text {empty} has no tokens", "remove it")
    return ids
