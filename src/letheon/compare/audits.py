"""Several audits side by side: the numbers of each, and what stands against comparing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from letheon.audit.record.evidence import Role
from letheon.audit.record.record import Audit
from letheon.compare.record import Entry, numbers_of, relearning_of, with_front


@dataclass(frozen=True)
class Audits:
    """Several audits to compare.

    Attributes:
        records: the audits by their names.
        entries: the model after of each, with the front marked.
        others: numbers of the models before and of the references, once where several audits share one.
        doubts: why the numbers may not be compared, as sentences.
    """

    records: dict[str, Audit]
    entries: list[Entry]
    others: dict[str, dict[str, float | None]]
    doubts: list[str]


def side_by_side(records: Mapping[str, Audit]) -> Audits:
    """Put audits beside each other.

    Args:
        records: audits by the names that they are to have, two or more.
    """
    entries = [
        Entry(
            name,
            attempts=[],
            numbers=numbers_of(record, "after"),
            outcome=record.verdict.outcome,
            relearning=relearning_of(record, "after"),
        )
        for name, record in records.items()
    ]
    others = {**_models(records, "before"), **_models(records, "reference")}
    return Audits(dict(records), with_front(entries), others, _doubts(records))


def _models(records: Mapping[str, Audit], role: Role) -> dict[str, dict[str, float | None]]:
    """The numbers of one role's models; where all audits have the same model and rows, they are told once."""
    with_role = {name: record for name, record in records.items() if _weights(record, role)}
    one = len({_weights(record, role) for record in with_role.values()}) == 1
    same = one and len({_rows(record) for record in with_role.values()}) == 1
    if not same:
        return {f"{role} ({name})": numbers_of(record, role) for name, record in with_role.items()}
    return {role: numbers_of(next(iter(with_role.values())), role)}


def _weights(record: Audit, role: Role) -> str | None:
    return next((model.sha256 for model in record.models if model.role == role), None)


def _rows(record: Audit) -> Any:
    """The rows that were asked, as far as a record tells."""
    return tuple((answer.subset, answer.prompt, answer.expected) for answer in record.answers)


def _doubts(records: Mapping[str, Audit]) -> list[str]:
    """Each way in which the audits are not of one kind."""
    differences: dict[str, Callable[[Audit], Any]] = {
        "They are about different requests, so their numbers say nothing about which method is better": (
            lambda record: record.request.id
        ),
        "They asked different rows": _rows,
        "They began with different models": lambda record: _weights(record, "before"),
        "Their references are different, or some have none": lambda record: _weights(record, "reference"),
        "They were decided by different criteria": lambda record: record.profile.sha256,
        "They ran different attacks": lambda record: tuple(attack.name for attack in record.attacks),
        "They drew with different seeds": lambda record: record.environment.seed,
    }
    return [f"{words}." for words, of in differences.items() if len({of(record) for record in records.values()}) > 1]
