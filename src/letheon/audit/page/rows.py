"""The rows of an audit as a table: each model's answer, its probability, and the attacks that brought it back."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from letheon.report.safe_text import label

if TYPE_CHECKING:
    from letheon.audit.record.evidence import Answer, Item, Metric
    from letheon.audit.record.record import Audit

ROLES = ("before", "after", "reference")
MOST_ROWS = 1000  # of the table; a browser searches that many at once, and the page stays within some megabytes
MOST_TEXT = 600  # characters of a cell
MOST_QUOTED = 160  # characters of what an attack drew
DAMAGED = ("gibberish", "empty")


class Back(NamedTuple):
    """An attack that made the model after give a row's fact, its answer, and the share of right guesses."""

    attack: str
    said: str
    chance: float


class Row(NamedTuple):
    """A question with what was measured on it.

    Attributes:
        probability: of the expected answer, by model.
        recalled: whether a model's plain answer gives it, by model.
        brought_back: the attacks after which the model after gives it.
        faults: why the row needs attention; none where it is as it should be.
    """

    answer: Answer
    probability: dict[str, float]
    recalled: dict[str, bool]
    brought_back: list[Back]
    faults: list[str]


class Table(NamedTuple):
    """The rows that are shown, rows that need attention first, with the numbers of all rows and of such rows."""

    rows: list[Row]
    total: int
    attention: int


def row_table(audit: Audit, most: int = MOST_ROWS) -> Table:
    """The table of an audit's answers.

    Args:
        most: how many rows are shown at most.
    """
    probability = {role: _by_id(audit, "probability", role) for role in ROLES}
    recall = {role: _by_id(audit, "recall", role) for role in ROLES}
    drawn = _drawn(audit)
    seen: Counter[tuple[str, str]] = Counter()
    rows = []
    for answer in audit.answers:
        key = (answer.subset, answer.id)
        place = seen[key]  # ids may repeat; the measurements stand in the order of the answers
        seen[key] += 1
        recalled = {role: value >= 1 for role, value in _at(recall, key, place).items()}
        brought = drawn.get(answer.id, []) if answer.subset == "forget" else []
        faults = _faults(answer, recalled, any(not back.chance for back in brought))  # guesses are listed, no more
        rows.append(Row(answer, _at(probability, key, place), recalled, brought, faults))
    rows.sort(key=lambda row: (not row.faults, row.answer.subset != "forget"))  # stable: the order of the request stays
    return Table(rows[:most], len(rows), sum(bool(row.faults) for row in rows))


ById = dict[tuple[str, str], list[float | None]]


def _by_id(audit: Audit, name: str, role: str) -> ById:
    """Return a metric's values per row, by set and id."""
    values: ById = defaultdict(list)
    metrics: Iterable[Metric] = (m for m in audit.metrics if m.name == name and m.model == role)
    for metric in metrics:
        for item in metric.items:
            values[metric.subset, item.id].append(item.value)
    return values


def _at(tables: Mapping[str, ById], key: tuple[str, str], place: int) -> dict[str, float]:
    """Return the values of one row, for the models that have one."""
    values = {role: table[key][place] for role, table in tables.items() if place < len(table.get(key, []))}
    return {role: value for role, value in values.items() if value is not None}


def _drawn(audit: Audit) -> dict[str, list[Back]]:
    """Return by row id the attacks that drew its fact out of the model after; attacks with an AUROC draw none."""
    attacks_by_row: dict[str, dict[str, Back]] = defaultdict(dict)
    for attack in audit.attacks:
        if attack.unit != "share of facts":
            continue
        for item in attack.items:
            if item.value == 1:
                attacks_by_row[item.id].setdefault(attack.name, Back(label(attack.name), _said(item), attack.chance))
    return {row: list(attacks.values()) for row, attacks in attacks_by_row.items()}


def _said(item: Item) -> str:
    said = item.detail.get("after")
    return said if isinstance(said, str) else ""


def _faults(answer: Answer, recalled: Mapping[str, bool], brought_back: bool) -> list[str]:
    """Return what is wrong with a row after the deletion, in words."""
    still = recalled.get("after", answer.kind == "still the fact")
    faults = [f"damaged: {answer.kind}"] if answer.kind in DAMAGED else []
    if answer.subset == "forget":
        faults += ["still given"] * still + ["brought back"] * brought_back
    elif answer.subset in ("retain", "neighbours") and not still and recalled.get("before", True):
        faults.append("lost")
    return faults
