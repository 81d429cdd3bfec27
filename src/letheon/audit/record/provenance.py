"""Provenance in the audit record: scope, subject, procedure, output, place in the ledger, retention.

Each may be absent; the record then says why (`Audit.absent`).
"""

from __future__ import annotations

from pydantic import Field, JsonValue
from pydantic import NonNegativeInt as Count

from letheon.audit.criteria import Sha256
from letheon.audit.ledger.entry import Commitments, Output
from letheon.audit.record.evidence import Part, Subset

__all__ = ["Chain", "Copy", "Output", "PARTS", "Procedure", "Retention", "Scope", "SubjectModel"]

PARTS = ("scope", "subject", "procedure", "output", "chain", "retention")


class Scope(Part):
    """What was to be forgotten and kept, without its rows."""

    counts: dict[Subset, Count]
    """Number of rows in each set."""
    scheme: str | None = None
    """How the commitments are made."""
    commitments: Commitments | None = None
    """Keyed commitments of the rows; null without a ledger, which keeps the key."""
    found: str
    """How the rows were found."""
    not_scoped: list[str]
    """What could not be, or was not, looked for."""


class Copy(Part):
    """A recorded copy made from the model."""

    kind: str
    """Adapter, merge, GGUF file, ..."""
    sha256: Sha256
    """Of its file or weight files."""
    holds: list[str]
    """Requests whose rows it still holds, as far as the ledger knows."""


class SubjectModel(Part):
    """The model from which the rows were to go."""

    name: str
    """As it was named on the command line."""
    sha256: Sha256
    """SHA-256 over its weights."""
    files: dict[str, Sha256]
    """SHA-256 of each of its files."""
    files_absent: str | None = None
    """Why no files are listed."""
    lineage: str
    """What is known of the data that it was trained on."""
    derivatives: list[Copy] = Field(default_factory=list)
    """Copies that the ledger knows of."""


class Procedure(Part):
    """How the rows were removed."""

    method: str
    """The method, as it can be given to `letheon forget --method`."""
    settings: dict[str, JsonValue]
    """All its settings, seeds included."""
    versions: dict[str, str]
    """Versions of what computed."""
    started: str | None = None
    """When the run was started (ISO 8601, UTC)."""
    stopped: str | None = None
    """Why the run ended."""
    operator: str | None = None
    """Who ran it."""


class Chain(Part):
    """Where the ledger's entry about this record stands; the entry holds this file's hash."""

    ledger: str
    """Id of the ledger."""
    sequence: Count
    """Number of the entry."""
    previous: Sha256
    """Hash of the entry before it."""
    signed_by: str | None = None
    """Id of the key that signs it; null: unsigned."""


class Retention(Part):
    """What is kept of the request, and for how long."""

    record: str
    """This record."""
    rows: str
    """The working copy of the rows."""
    key: str
    """The key of the commitments."""
