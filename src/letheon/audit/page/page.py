"""An audit as one HTML file that opens anywhere, reads on a phone, prints, and loads nothing from outside.

The verdict in words comes first, then the evidence, then the detail. All text of the record is escaped by the template;
only the figures and the search script, which are made here, enter as markup, and the page's own policy lets no other
script run than that one, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from letheon.audit.page.drawings import drawings
from letheon.audit.page.first_screen import first_screen
from letheon.audit.page.limits import rule
from letheon.audit.page.rows import MOST_QUOTED, MOST_TEXT, ROLES, row_table
from letheon.report.html import environment
from letheon.report.numbers import Point

if TYPE_CHECKING:
    from letheon.audit.criteria import CriterionOutcome
    from letheon.audit.record.evidence import Answer, Continued, LearningPoint, Metric, Value
    from letheon.audit.record.record import Audit

SUBSETS = {
    "forget": "What was to be forgotten",
    "retain": "What was to be kept",
    "neighbours": "Close neighbours",
    "holdout": "Held-out rows",
    "general": "Language in general",
}
HEADLINES = {"pass": "Passed", "fail": "Failed", "inconclusive": "Inconclusive"}
EXAMPLES = {"forget": 3, "retain": 1}  # answers that are quoted before the table of all rows
MOST_SETTINGS = 20_000  # characters of the settings
MOST_LISTED = 200  # warnings, gaps, files: more are in the record
PARTS = {
    "scope": "Scope",
    "subject": "Model from which the rows were to go",
    "procedure": "Procedure",
    "output": "Model that came out",
    "chain": "Place in the ledger",
    "retention": "What is kept",
}


def render_audit(audit: Audit) -> str:
    """The page of an audit as HTML text.

    Args:
        audit: the record; nothing else is read, so the same record gives the same page.
    """
    template = environment("letheon.audit.page").get_template("report.html.j2")
    script = search_script()
    return template.render(
        audit=audit,
        rule=rule,
        headline=HEADLINES[audit.verdict.outcome],
        first=first_screen(audit),
        subsets=SUBSETS,
        roles=[role for role in ROLES if role != "reference" or _has_reference(audit)],
        groups=verdict_groups(audit.verdict.criteria),
        sections=_key_numbers(audit.metrics),
        kinds=Counter(answer.kind for answer in audit.answers if answer.subset == "forget"),
        examples=_examples(audit.answers),
        table=row_table(audit),
        figures=drawings(audit),
        checks=checks_of(audit.settings),
        detected=detection_of(audit.settings),
        ability=ability_of(audit.settings),
        matrices=[matrix_of(one) for one in audit.continued],
        parts=PARTS,
        absent=_absent(audit.absent),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        most={"text": MOST_TEXT, "quoted": MOST_QUOTED, "settings": MOST_SETTINGS, "listed": MOST_LISTED},
    )


# --- the verdict ---


def verdict_groups(criteria: Sequence[CriterionOutcome]) -> dict[str, list[CriterionOutcome]]:
    """Group criteria by outcome: failed, not decided, passed, set aside, for information."""
    groups: dict[str, list[CriterionOutcome]] = {
        "Failed": [],
        "Could not be decided": [],
        "Passed": [],
        "Set aside, as the profile allows": [],
        "For information, without weight in the verdict": [],
    }
    failed, undecided, passed, aside, informative = groups.values()
    for outcome in criteria:
        if not outcome.criterion.required:
            informative.append(outcome)
        elif outcome.outcome in ("pass", "fail"):
            (passed if outcome.outcome == "pass" else failed).append(outcome)
        else:
            (aside if outcome.is_set_aside else undecided).append(outcome)
    return {title: members for title, members in groups.items() if members}


# --- tables ---


class Measures(NamedTuple):
    """A metric of the key numbers, with a cell for each model that was measured."""

    metric: Metric
    cells: dict[str, Value]


def _key_numbers(metrics: Sequence[Metric]) -> dict[str, list[Measures]]:
    """Return the key numbers by the title of their set, in the order in which they were measured."""
    rows: dict[tuple[str, str], Measures] = {}
    for metric in metrics:
        rows.setdefault((metric.subset, metric.name), Measures(metric, {})).cells[metric.model] = metric.value
    sections = {
        title: [row for (place, _), row in rows.items() if place == subset] for subset, title in SUBSETS.items()
    }
    return {title: section for title, section in sections.items() if section}


def _examples(answers: Sequence[Answer]) -> list[Answer]:
    """Return the first answers of some sets."""
    return [
        answer
        for subset, limit in EXAMPLES.items()
        for answer in [one for one in answers if one.subset == subset][:limit]
    ]


def _absent(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the titles of absent parts, by the reason for their absence."""
    titles: dict[str, list[str]] = {}
    for part, reason in reasons.items():
        titles.setdefault(reason, []).append(PARTS[part].lower())
    return titles


def _has_reference(audit: Audit) -> bool:
    """Say whether anything was measured on a reference."""
    return any(metric.model == "reference" for metric in audit.metrics)


def matrix_of(learning: Continued) -> list[tuple[str, LearningPoint]]:
    """Return the rows of the accuracy matrix: the evaluation before the stream, and the last one of each task."""
    last = {point.task: point for point in learning.points}
    return [(learning.tasks[task - 1] if task else "(before)", point) for task, point in last.items()]


# --- results that the record keeps in its settings ---


class CheckShown(NamedTuple):
    """A check of the instruments: see `letheon.audit.measuring.no_ops`."""

    name: str
    outcome: str
    detail: str


def checks_of(settings: Mapping[str, Any]) -> list[CheckShown]:
    """Return the checks of a record; older records hold none."""
    checks = settings.get("checks")
    entries = [entry for entry in checks if isinstance(entry, dict)] if isinstance(checks, list) else []
    return [CheckShown(*(str(entry.get(field, "")) for field in CheckShown._fields)) for entry in entries]


class DetectionShown(NamedTuple):
    """The AUROC with which one model's answers to forget rows differ from its answers about never-known things."""

    role: str
    score: Point
    controls: str
    features: dict[str, float]


def detection_of(settings: Mapping[str, Any]) -> list[DetectionShown]:
    """Return a record's results on whether the deletion can be noticed; older records and quick audits hold none."""
    detection = settings.get("detection")
    by_role = detection if isinstance(detection, dict) else {}
    shown = []
    for role in ROLES:
        one = by_role.get(role)
        if isinstance(one, dict) and isinstance(score := one.get("score"), dict):
            features = one.get("features")
            named = dict(_numbers(features.items())) if isinstance(features, dict) else {}
            ends = dict(_numbers((end, score.get(end)) for end in Point._fields))
            point = Point(ends.get("value"), ends.get("low"), ends.get("high"))
            shown.append(DetectionShown(role, point, str(one.get("controls", "")), named))
    return shown


class AbilityShown(NamedTuple):
    """A task of general ability: the model after minus another one, over the same documents."""

    task: str
    metric: str
    against: str
    change: Point
    n: int


def ability_of(settings: Mapping[str, Any]) -> list[AbilityShown]:
    """Return a record's paired differences of general tasks; most audits hold none."""
    rows = settings.get("general_ability")
    entries = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    shown = []
    for row in entries:
        ends = dict(_numbers((end, row.get(end)) for end in Point._fields))
        n = row.get("n")
        task, metric, against = (str(row.get(name, "")) for name in ("task", "metric", "against"))
        change = Point(ends.get("value"), ends.get("low"), ends.get("high"))
        shown.append(AbilityShown(task, metric, against, change, n if isinstance(n, int) else 0))
    return shown


def _numbers(entries: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, float]]:
    return ((name, float(value)) for name, value in entries if isinstance(value, (int, float)))


def search_script() -> Markup:
    """Return the script that searches the table of rows: the only one that the page lets run."""
    return Markup(files("letheon.audit.page").joinpath("rows.js").read_text(encoding="utf-8"))
