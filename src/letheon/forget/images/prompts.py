"""Read and check the prompts of a pruning: memorised prompts, kept prompts, and reference prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from letheon.core.errors import InputError
from letheon.core.rows.examples import check_characters, read_lines, read_rows, short

FEWEST = 2  # one prompt says nothing about a spread
TABLES = (".json", ".jsonl", ".csv", ".parquet")


@dataclass(frozen=True)
class Prompts:
    """Prompts of a text-to-image pipeline.

    Attributes:
        memorised: prompts whose training images come back.
        kept: prompts whose images are to stay as they are; may be empty.
        reference: as many as the memorised ones; empty strings where none are given.
    """

    memorised: tuple[str, ...]
    kept: tuple[str, ...]
    reference: tuple[str, ...]

    @classmethod
    def read(cls, memorised: Path, kept: Path | None = None, reference: Path | None = None) -> Self:
        """Read and check files of prompts: one per line, or rows with the field `prompt` (see `TABLES`).

        Raises:
            InputError: a blank prompt, one that occurs twice, too few of them, or a file that cannot be read; the
                message names file and row.
        """
        places: dict[str, str] = {}
        target = _read(memorised, places)
        others = {name: _read(path, dict(places)) if path else () for name, path in (("k", kept), ("r", reference))}
        for path, prompts in ((memorised, target), (kept, others["k"])):
            if path and len(prompts) < FEWEST:
                raise InputError(f"{path} holds {len(prompts)} prompt", f"give at least {FEWEST}")
        if reference and len(others["r"]) != len(target):
            raise InputError(
                f"prompts in {reference}: {len(others['r'])}, in {memorised}: {len(target)}",
                "give as many: activation norms grow with the number of prompts",
            )
        return cls(target, others["k"], others["r"] or ("",) * len(target))

    @property
    def sampled(self) -> tuple[str, ...]:
        """The prompts of which images are compared: the memorised ones, then the kept ones."""
        return self.memorised + self.kept


def _read(path: Path, places: dict[str, str]) -> tuple[str, ...]:
    """Read a file of prompts; `places` says where prompts of other files stand, and gets those of this file."""
    found = []
    for number, text in _rows(path):
        where = f"{path}, row {number}"
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: found {short(text)}, not a prompt", "write a prompt there or remove the row")
        check_characters([text], where)
        key = " ".join(text.split()).casefold()  # text encoders fold both
        if key in places:
            raise InputError(f"{where}: {short(text)} is also in {places[key]}", "remove one of them")
        places[key] = where
        found.append(text.strip())
    if not found:
        raise InputError(f"{path} holds no prompt", "write one prompt per line")
    return tuple(found)


def _rows(path: Path) -> list[tuple[int, object]]:
    if path.suffix.lower() in TABLES:
        return [(number, row.get("prompt") if isinstance(row, dict) else row) for number, row in read_rows(path)]
    lines = read_lines(path)
    while lines and not lines[-1]:  # the end of the file
        lines.pop()
    return list(enumerate(lines, start=1))
