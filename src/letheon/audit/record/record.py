"""The audit record: what an audit was asked, measured and decided, as one JSON file with a published schema.

The record is written once, checked again when it is read, and rendered for people by `letheon.audit.page.page`.
Its parts are in `evidence.py` (measurements), `criteria.py` (profile and verdict) and `provenance.py` (scope,
subject, procedure, output, place in the ledger, retention).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, JsonValue, ValidationError, model_validator
from pydantic import NonNegativeInt as Count

from letheon.audit.criteria import Criterion, CriterionOutcome, Limit, Profile, Sha256, Verdict, first_fault
from letheon.audit.record.evidence import (
    Answer,
    Attack,
    Curve,
    CurvePoint,
    Evidence,
    Item,
    Metric,
    Part,
    Quantised,
    Role,
    Subset,
    Value,
)
from letheon.audit.record.provenance import PARTS, Chain, Output, Procedure, Retention, Scope, SubjectModel
from letheon.core.atomic import atomic_write_text, read_json
from letheon.core.errors import InputError, LetheonError

__all__ = [
    "Answer",
    "Attack",
    "Audit",
    "Criterion",
    "CriterionOutcome",
    "Curve",
    "CurvePoint",
    "Environment",
    "Evidence",
    "Item",
    "Limit",
    "Metric",
    "ModelIdentity",
    "NotComputable",
    "Profile",
    "Quantised",
    "RequestSummary",
    "Role",
    "Subset",
    "Value",
    "Verdict",
    "schema_text",
    "write_schema",
]

SCHEMA_FILE = Path(__file__).with_name("audit.schema.json")


class ModelIdentity(Part):
    """Which model this was."""

    role: Role
    """The part it plays in the audit."""
    name: str
    """Name or identifier."""
    sha256: Sha256
    """SHA-256 over its weights."""
    parameters: Count
    """Number of parameters."""
    adapter: bool
    """Whether the change is an adapter beside frozen weights."""


class RequestSummary(Part):
    """The deletion request, without its rows."""

    id: str
    """The request's identifier."""
    reason: str
    """Why the deletion was asked for."""
    received: str | None = None
    """When it arrived (ISO 8601)."""
    due: str | None = None
    """By when it must be carried out (ISO 8601)."""
    counts: dict[Subset, Count]
    """Number of rows in each set."""
    fields: list[str] = Field(default_factory=list)
    """Fields that the rows carry, such as `value`, `subject` or `paraphrases`."""


class Environment(Part):
    """What the numbers were computed with."""

    packages: dict[str, str]
    """Versions of the packages that compute."""
    python: str
    """Python version."""
    platform: str
    """Operating system and processor."""
    device: str
    """Device that computed."""
    threads: Count
    """Processor threads used."""
    precision: str
    """Number format of the scoring."""
    seed: int
    """Root seed."""


class NotComputable(Part):
    """Something that was not measured."""

    what: str
    """The measurement."""
    reason: str
    """Why there is none."""


# Why a part is absent where nobody has said so.
NOT_TOLD = "this record was made from the models and the request alone"


class Audit(Evidence):
    """The audit of one deletion request: what was asked, measured and decided."""

    schema_version: Literal["1"] = "1"
    """Version of this format."""
    request: RequestSummary
    """What was asked."""
    models: list[ModelIdentity]
    """The models that were compared."""
    settings: dict[str, JsonValue]
    """Resolved settings of the deletion and of the audit."""
    environment: Environment
    """Software and machine of the audit."""
    profile: Profile
    """The criteria, fixed before the run."""
    verdict: Verdict
    """The decision."""
    not_computable: list[NotComputable] = Field(default_factory=list)
    """What was not measured, and why."""
    started: AwareDatetime
    """When the audit began (UTC)."""
    seconds: Annotated[float, Field(ge=0)]
    """How long it took."""
    warnings: list[str] = Field(default_factory=list)
    """What a reader should know before relying on the numbers."""
    scope: Scope | None = None
    """What was to be forgotten and kept, as commitments and counts."""
    subject: SubjectModel | None = None
    """The model from which the rows were to go, with its files."""
    procedure: Procedure | None = None
    """How they were removed."""
    output: Output | None = None
    """The model that came out, with its files."""
    chain: Chain | None = None
    """Where the ledger's entry about this record stands."""
    retention: Retention | None = None
    """What is kept, and for how long."""
    absent: dict[str, str] = Field(default_factory=dict)
    """Why each part that is null is absent."""

    @model_validator(mode="after")
    def _criteria_came_first(self) -> Self:
        if self.profile.fixed_at > self.started:
            raise ValueError(
                f"the profile was fixed at {self.profile.fixed_at}, after the audit began at {self.started}"
            )
        if self.verdict.profile_sha256 != self.profile.sha256:
            raise ValueError("the verdict was reached with another profile than the record's")
        return self

    @model_validator(mode="after")
    def _absence_is_explained(self) -> Self:
        missing = [name for name in PARTS if getattr(self, name) is None]
        if stray := sorted(set(self.absent) - set(missing)):
            raise ValueError(f"{stray[0]} is said to be absent, and is there or is no part of a record")
        self.absent = {name: self.absent.get(name) or NOT_TOLD for name in missing}
        return self

    def write(self, path: Path) -> None:
        """Write the record as JSON, whole or not at all.

        Raises:
            LetheonError: a number is NaN or infinite; the message names its place.
        """
        record = self.model_dump(mode="json")
        for place, number in _numbers(record):
            if not math.isfinite(number):
                raise LetheonError(
                    f"audit record, {place}: {number} cannot be recorded",
                    "record null with the reason why it could not be computed",
                )
        atomic_write_text(path, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a record.

        Raises:
            InputError: the file is missing, no JSON, of another schema version, or not a valid record.
        """
        content = read_json(path)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != "1":
            raise InputError(
                f"{path}: schema version {version!r}, this version of Letheon reads '1'",
                "give an audit.json written by `letheon audit`, or the version of Letheon that wrote it",
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise InputError(f"{path}: {first_fault(error)}", "restore the file from the run that wrote it") from error


def schema_text() -> str:
    """The JSON schema of the record, as published in `audit.schema.json`."""
    schema = Audit.model_json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def write_schema(path: Path = SCHEMA_FILE) -> None:
    """Write the published schema anew, after a change of the models."""
    atomic_write_text(path, schema_text())


def _numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Every float in nested lists and dictionaries, with its place."""
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{place}[{index}]")
