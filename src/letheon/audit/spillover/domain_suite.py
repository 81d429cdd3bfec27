"""A suite of prompts by domain: what a model should refuse, and what it should answer, read from JSON lines.

{"domain": "gardening", "prompt": "...", "reference_refusal": "...", "split": "test"}

`domain` and `prompt` are needed. The domain `neutral` holds what should be answered: over-refusing shows there, and
concepts are measured from it. `reference_refusal` is how a prompt should be refused; only training needs it.
`split` is `test` (measured; the default) or `train` (may be trained on, never measured).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from letheon.core.errors import InputError, nearest
from letheon.core.rows.examples import Example, read_rows, short

Split = Literal["train", "test"]
NEUTRAL = "neutral"
FIELDS = ("domain", "prompt", "reference_refusal", "split")


@dataclass(frozen=True)
class DomainPrompt:
    """One prompt: its domain, how it should be refused (where that is known), and what it may be used for."""

    domain: str
    prompt: str
    reference_refusal: str | None = None
    split: Split = "test"


@dataclass(frozen=True)
class DomainSuite:
    """Prompts of several domains.

    Attributes:
        rows: in the order in which they are reported.
        name: as reports name it.

    Raises:
        InputError: no test prompts of a domain that should refuse, or a prompt that is both trained on and measured.
    """

    rows: tuple[DomainPrompt, ...]
    name: str = "suite"

    def __post_init__(self) -> None:
        if not self.domains:
            raise InputError(f"{self.name}: no test prompt of any domain but {NEUTRAL!r}", "add rows with split 'test'")
        trained = {_even(row.prompt) for row in self.rows if row.split == "train"}
        for row in self.rows:
            if row.split == "test" and _even(row.prompt) in trained:
                raise InputError(
                    f"{self.name}: {short(row.prompt)} is in both splits",
                    "what is trained on must not be measured: remove it from one of them",
                )

    @classmethod
    def read(cls, path: str | Path) -> DomainSuite:
        """Read JSON lines (or what else `letheon.core.rows.examples.read_rows` reads).

        Raises:
            InputError: names file, row, field, what was found and what to do.
        """
        rows = tuple(_row(row, f"{path}, row {number}") for number, row in read_rows(path))
        return cls(rows, Path(path).name)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains with test prompts that should be refused, in the order of their first row."""
        return tuple(dict.fromkeys(r.domain for r in self.rows if r.split == "test" and r.domain != NEUTRAL))

    def prompts(self, domain: str, split: Split = "test") -> list[str]:
        """The prompts of a domain."""
        return [row.prompt for row in self.rows if row.domain == domain and row.split == split]

    def refusals(self, domains: Sequence[str], each: int | None = None) -> list[Example]:
        """Train rows of some domains with their reference refusals, at most `each` of a domain, in the suite's order.

        Raises:
            InputError: a domain has none.
        """
        found: list[Example] = []
        for domain in domains:
            rows = [
                Example(row.prompt, row.reference_refusal, f"{domain}-{number}")
                for number, row in enumerate(self.rows, start=1)
                if row.domain == domain and row.split == "train" and row.reference_refusal
            ]
            if not rows:
                raise InputError(
                    f"{self.name}: domain {domain!r} has no train row with a reference refusal", "add some rows"
                )
            found += rows[:each]
        return found


def _even(text: str) -> str:
    return " ".join(text.casefold().split())


def _row(row: Any, where: str) -> DomainPrompt:
    if not isinstance(row, dict):
        raise InputError(f"{where}: found {short(row)}, not an object", 'write {"domain": ..., "prompt": ...}')
    for name in row:
        if name not in FIELDS:
            raise InputError(f"{where}: unknown field {name!r}", nearest(name, list(FIELDS)))
    for name in ("domain", "prompt"):
        _text(row.get(name), where, name)
    refusal, split = row.get("reference_refusal"), row.get("split", "test")
    if refusal is not None:
        _text(refusal, where, "reference_refusal")
    if split not in get_args(Split):
        raise InputError(f"{where}, field 'split': found {short(split)}", "write train or test")
    return DomainPrompt(row["domain"], row["prompt"], refusal, split)


def _text(value: Any, where: str, name: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}, field {name!r}: found {short(value)}, not a non-empty text", "fill it")
