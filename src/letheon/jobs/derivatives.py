"""`letheon ledger derivative`: record the copies of a model, and list what they still hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from letheon.audit.ledger import derivatives
from letheon.core.errors import InputError
from letheon.jobs.ledger import Writing, opened
from letheon.jobs.options import DerivativeKind, LedgerAccess


def list_derivatives(access: LedgerAccess) -> list[dict[str, Any]]:
    """Return the copies in use, each with the deleted requests that it still holds."""
    with opened(access) as ledger:
        return [
            {**one.derivative.model_dump(), "entry": one.sequence, "holds": one.holds}
            for one in derivatives.standing(ledger.entries())
        ]


@dataclass(frozen=True)
class AddDerivative(Writing):
    """A copy that was made from a model."""

    path: Path  # file of the copy, or a folder with safetensors files
    parent: str  # the model it was made from, or the hash of a model's weights or of another derivative
    kind: DerivativeKind = "other"
    access: LedgerAccess = field(default_factory=LedgerAccess)
    device: str = "auto"

    def perform(self, write: bool) -> dict[str, Any]:
        """Describe the copy, and record it where `write` says so."""
        with opened(self.access) as ledger:
            made = derivatives.describe(self.path, self.kind, self.parent, self.device)
            if write:
                derivatives.add(ledger, made)
        return made.model_dump()


@dataclass(frozen=True)
class ReplaceDerivative(Writing):
    """A copy that was replaced by another, or withdrawn."""

    old: str  # the beginning of the copy's hash, or its path as it was recorded
    by: Path | None = None  # the copy that took its place, None where it was withdrawn
    parent: str = ""  # the model that the new copy was made from; given with `by`
    kind: DerivativeKind = "other"
    access: LedgerAccess = field(default_factory=LedgerAccess)
    device: str = "auto"

    def perform(self, write: bool) -> dict[str, Any]:
        """Find the copy and describe the new one; record the replacement where `write` says so."""
        if (self.by is None) != (not self.parent):
            raise InputError("--by and --parent go together", "give both, or neither where the copy was withdrawn")
        with opened(self.access) as ledger:
            by = self.by
            new = derivatives.describe(by, self.kind, self.parent, self.device) if by is not None else None
            replaced = derivatives.find_standing(ledger, self.old)
            if write:
                derivatives.replace(ledger, replaced, new)
        return {"replaced": replaced.derivative.sha256, "by": new.sha256 if new else None}
