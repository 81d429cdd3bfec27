"""Copies of a model: adapters, merges, GGUF files. After a deletion they hold the data until they are replaced."""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from letheon.audit.ledger.entry import Derivative, Entry
from letheon.audit.ledger.store import Ledger
from letheon.core.atomic import sha256_of
from letheon.core.errors import InputError
from letheon.core.model.models import check_loadable, load, save_hash


@dataclass(frozen=True)
class Standing:
    """A derivative that was not replaced.

    Attributes:
        sequence: of the entry that recorded it.
        holds: requests whose rows were deleted from what it was made from, afterwards: it still holds them.
    """

    derivative: Derivative
    sequence: int
    holds: list[str]


def standing(entries: Iterable[Entry]) -> list[Standing]:
    """The derivatives that are in use, and what each still holds."""
    entries = list(entries)
    parents: dict[str, str] = {}
    in_use: dict[str, tuple[Derivative, int]] = {}
    for entry in entries:
        if entry.replaced:
            in_use.pop(entry.replaced, None)
        if entry.derivative:
            parents[entry.derivative.sha256] = entry.derivative.parent
            in_use[entry.derivative.sha256] = (entry.derivative, entry.sequence)
    return [
        Standing(derivative, sequence, _deleted_after(_origin(derivative.parent, parents), entries))
        for derivative, sequence in in_use.values()
    ]


def _origin(model: str, parents: dict[str, str]) -> str:
    """The model that a derivative goes back to, through the derivatives between."""
    seen: set[str] = set()
    while model in parents and model not in seen:
        seen.add(model)
        model = parents[model]
    return model


def _deleted_after(model: str, entries: Iterable[Entry]) -> list[str]:
    """Requests deleted from a model, and from the models that came of that, here or elsewhere."""
    held: list[str] = []
    line = {model}  # the model and what later deletions made of it
    for entry in entries:
        if entry.before and entry.after and entry.request and entry.before.sha256 in line:
            line.add(entry.after.sha256)
            held.append(entry.request)
    return list(dict.fromkeys(held))


def describe(path: Path, kind: str, parent: str, device: str = "cpu") -> Derivative:
    """A derivative from its file or folder.

    Args:
        parent: a hash (64 hex digits), or a model that is loaded to have its weights hashed.

    Raises:
        InputError: there is no such file, folder or model.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", "check the path")
    digest = save_hash(path) if path.is_dir() else sha256_of(path)
    return Derivative(sha256=digest, kind=kind, path=str(path), parent=weights_hash(parent, device))  # type: ignore[arg-type]  # pydantic checks the kind


def weights_hash(model: str, device: str = "cpu") -> str:
    """A hash as it is, or that of a model's weights."""
    if len(model) == 64 and set(model) <= set(string.hexdigits):
        return model.lower()
    check_loadable(model)
    return load(model, device=device).parameters_hash()


def add(ledger: Ledger, derivative: Derivative) -> Entry:
    """Record a derivative.

    Raises:
        InputError: it is recorded already.
    """
    if any(one.derivative.sha256 == derivative.sha256 for one in standing(ledger.entries())):
        raise InputError(
            f"{derivative.path} is recorded already ({derivative.sha256})", "see letheon ledger derivative list"
        )
    return ledger.append("derivative", derivative=derivative)


def replace(ledger: Ledger, old: Standing, new: Derivative | None) -> Entry:
    """Record that a derivative was replaced by another, or withdrawn."""
    return ledger.append("replace", replaced=old.derivative.sha256, derivative=new)


def find_standing(ledger: Ledger, old: str) -> Standing:
    """A derivative in use.

    Args:
        old: the beginning of its hash, or its path as it was recorded.

    Raises:
        InputError: it names none, or several.
    """
    known = standing(ledger.entries())
    found = [one for one in known if one.derivative.path == old or (old and one.derivative.sha256.startswith(old))]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{one.derivative.sha256[:12]} ({one.derivative.path})" for one in found or known) or "none"
    raise InputError(f"{old!r} names {len(found)} derivatives in use", f"in use: {names}")
