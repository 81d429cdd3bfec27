"""What an entry of the ledger says. It never holds rows, nor plain hashes of rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, StringConstraints
from pydantic import NonNegativeInt as Count

from letheon.audit.criteria import Sha256
from letheon.audit.record.evidence import Part, Subset, Value

Action = Literal["create", "begin", "stop", "forget", "audit", "recheck", "close", "derivative", "replace", "erase"]
Words = Annotated[str, StringConstraints(max_length=1000)]
# What can have come of asking a request's rows again on a later model.
Return = Literal["still gone", "higher, within the interval", "came back"]


class Commitments(Part):
    """Keyed commitments of a request's rows, one a row, in the order of the request."""

    key: str
    """Id of the key; the key itself lies beside the ledger until the case is closed."""
    rows: dict[Subset, list[Sha256]]
    """HMAC-SHA-256 of each row, by set."""


class ModelRef(Part):
    """Which model."""

    name: Words
    """As it was named on the command line."""
    sha256: Sha256
    """SHA-256 over its weights."""


class AuditRef(Part):
    """Which audit, and what it found."""

    sha256: Sha256
    """SHA-256 of audit.json."""
    verdict: Literal["pass", "fail", "inconclusive"]
    """The decision."""
    profile: str
    """Name of the criteria."""
    profile_sha256: Sha256
    """Hash of the criteria."""


class Output(Part):
    """A folder of files that came out."""

    folder: Words
    """Where they were written."""
    files: dict[str, Sha256]
    """SHA-256 of each file by its name."""


class Derivative(Part):
    """A copy made from a model: an adapter, a merge, a GGUF file, ..."""

    sha256: Sha256
    """SHA-256 of the file, or of the names and hashes of a folder's weight files."""
    kind: Literal["adapter", "merge", "gguf", "quantised", "other"]
    """What it is."""
    path: Words
    """Where it was found."""
    parent: Sha256
    """Hash of the weights that it was made from, or of another derivative."""


class Asked(Part):
    """What asking one request's rows again gave."""

    request: Words
    """The request."""
    rows: Count
    """Rows that were asked: those of the given files that match the commitments."""
    of: Count
    """Rows that the request has."""
    then: dict[str, Value]
    """What was recorded after the deletion."""
    now: dict[str, Value]
    """The same, measured now."""
    outcome: Return
    """The decision."""


class Erased(Part):
    """An erasure from a memory of conversations, without anything that the memories said."""

    file: Words
    """The memory file."""
    sha256: Sha256
    """SHA-256 of the file after the erasure."""
    memories: Count
    """Memories that were erased, derived ones included."""
    derived: Count
    """Those of them that were erased because they were derived from others."""
    searched_bytes: Count
    """Size of the raw files that were searched."""
    needles: Count
    """Texts, words and vectors that were searched for."""
    stems: Count
    """Word stems that the index was asked for."""
    remains: Count
    """How many of them were still there."""
    proven: bool
    """Whether nothing was left."""


class Entry(Part):
    """One entry; fields that do not apply are left out."""

    sequence: Annotated[int, Field(ge=1)]
    """1, 2, 3, ..."""
    time: str
    """When it was written (ISO 8601, UTC)."""
    actor: Words
    """Who did it."""
    action: Action
    """What was done."""
    signed_by: str | None = None
    """Id of the key that signs the head that this entry makes."""
    ledger: str | None = None
    """Random id of the ledger, in its first entry."""
    request: Words | None = None
    """Id of the request."""
    reason: Words | None = None
    """Why."""
    received: Words | None = None
    """When the request arrived (ISO 8601)."""
    due: Words | None = None
    """By when it must be carried out (ISO 8601)."""
    counts: dict[Subset, Count] | None = None
    """Number of rows in each set."""
    commitments: Commitments | None = None
    """What the rows were, under a key of the request."""
    before: ModelRef | None = None
    """The model before."""
    after: ModelRef | None = None
    """The model after."""
    outcome: Words | None = None
    """The kind of error of a deletion that stopped."""
    method: Words | None = None
    """How."""
    settings: dict[str, JsonValue] | None = None
    """All settings of the method."""
    measured: dict[str, Value] | None = None
    """What the model after knows of the forget rows: recall, probability."""
    audit: AuditRef | None = None
    """The audit."""
    output: Output | None = None
    """The model that was written."""
    key_destroyed: bool | None = None
    """Whether a closing found a key to destroy."""
    model: ModelRef | None = None
    """The model that was asked again."""
    asked: list[Asked] | None = None
    """The requests that were asked again."""
    not_asked: dict[str, str] | None = None
    """The requests that could not be asked again, and why."""
    erased: Erased | None = None
    """The erasure from a memory."""
    derivative: Derivative | None = None
    """A copy that was recorded, or that took the place of another."""
    replaced: Sha256 | None = None
    """The derivative that was replaced or withdrawn."""

    def to_json(self) -> dict[str, Any]:
        """As it is stored: without what does not apply."""
        return self.model_dump(mode="json", exclude_none=True)
