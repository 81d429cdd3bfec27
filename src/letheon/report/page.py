"""An audit as one HTML file that opens anywhere, reads on a phone, prints, and loads nothing from outside.

All text of the record is escaped by the template; only the figures, which are made here, enter as markup.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from letheon.report import figures
from letheon.report.numbers import Measured, interval, number

if TYPE_CHECKING:
    from letheon.audit.criteria import Criterion, Limit
    from letheon.audit.evidence import Answer, Metric, Value
    from letheon.audit.record import Audit

ROLES = ("before", "after", "reference")
SUBSETS = {
    "forget": "What was to be forgotten",
    "retain": "What was to be kept",
    "neighbours": "Close neighbours",
    "holdout": "Held-out rows",
    "general": "Language in general",
}
HEADLINES = {"pass": "Passed", "fail": "Failed", "inconclusive": "Inconclusive"}
LABELS = {"rouge_l_recall": "ROUGE-L recall", "damage": "Damaged answers"}
SHARES = (
    "recall",
    "rouge_l_recall",
    "probability",
    "value_probability",
    "exact_memorization",
    "extraction_strength",
    "truth_ratio",
)
SHOWN = {"forget": 10, "retain": 3, "neighbours": 3, "holdout": 1, "general": 1}
CONTROL_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {127: 0x2421}


def render_audit(audit: Audit) -> str:
    """The page of an audit as HTML text.

    Args:
        audit: the record; nothing else is read, so the same record gives the same page.
    """
    template = environment().get_template("report.html.j2")
    return template.render(
        audit=audit,
        headline=HEADLINES[audit.verdict.outcome],
        subsets=SUBSETS,
        roles=[role for role in ROLES if role != "reference" or _has_reference(audit)],
        sections=_key_numbers(audit.metrics),
        kinds=Counter(answer.kind for answer in audit.answers if answer.subset == "forget"),
        shown=_chosen(audit.answers, shown=True),
        hidden=_chosen(audit.answers, shown=False),
        figures=_figures(audit),
        settings=json.dumps(audit.settings, indent=2, ensure_ascii=False, sort_keys=True),
    )


def environment() -> Environment:
    """Jinja with escaping always on and undefined names refused."""
    environment = Environment(
        loader=PackageLoader("letheon.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "visible": visible,
        "moment": moment,
        "label": label,
        "rule": rule,
        "duration": duration,
    }
    return environment


# --- words ---


def visible(text: str) -> str:
    """Text in which control characters are shown as pictures instead of acting on the page or the printer."""
    return text.translate(CONTROL_PICTURES)


def moment(time: datetime) -> str:
    """`2 March 2026, 09:30 UTC`."""
    utc = time.astimezone(UTC)
    return f"{utc.day} {utc:%B %Y, %H:%M} UTC"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def label(name: str) -> str:
    """A metric's or attack's machine name in words."""
    return LABELS.get(name, name.replace("_", " ").capitalize())


def rule(criterion: Criterion) -> str:
    """A criterion's limits as they were fixed: `at most 1.1 × before; without it, at most 20`."""
    return "; without it, ".join(_limit(limit, criterion.comparison) for limit in criterion.limits())


def _limit(limit: Limit, comparison: str) -> str:
    """One limit in words."""
    how, _, source = limit.basis.partition(" ")
    size = f"{limit.threshold:g}"
    if comparison == "within":
        return f"within {size} of {source}"
    start = {"<=": "at most", ">=": "at least"}[comparison]
    if how == "absolute":
        return f"{start} {size}"
    if how == "times":
        return f"{start} {size} × {source}"
    sign = "+" if comparison == "<=" else "−"
    return f"{start} {source} {sign} {size}" if limit.threshold else f"{start} that of {source}"


# --- tables ---


class Row(NamedTuple):
    """A metric of the key numbers, with a cell for each model that was measured."""

    metric: Metric
    cells: dict[str, Value]


def _key_numbers(metrics: Sequence[Metric]) -> dict[str, list[Row]]:
    """Rows by the title of their set, in the order in which they were measured."""
    rows: dict[tuple[str, str], Row] = {}
    for metric in metrics:
        rows.setdefault((metric.subset, metric.name), Row(metric, {})).cells[metric.model] = metric.value
    found = {title: [row for (place, _), row in rows.items() if place == subset] for subset, title in SUBSETS.items()}
    return {title: section for title, section in found.items() if section}


def _chosen(answers: Sequence[Answer], shown: bool) -> list[Answer]:
    """Answers shown at once (the target first, then some of each other set), or all the others."""
    chosen: list[Answer] = []
    for subset, limit in SHOWN.items():
        some = [answer for answer in answers if answer.subset == subset]
        chosen += some[:limit] if shown else some[limit:]
    return chosen


def _has_reference(audit: Audit) -> bool:
    """Whether anything was measured on a retrained model."""
    return any(metric.model == "reference" for metric in audit.metrics)


# --- figures ---


def _figures(audit: Audit) -> dict[str, list[Markup]]:
    """The figures of each section; an empty list where there is nothing to draw."""
    return {
        "utility": [Markup(svg) for svg in (*_plane(audit), *_probabilities(audit))],
        "attacks": [Markup(svg) for svg in _attacks(audit)],
        "curves": [Markup(svg) for svg in _curves(audit)],
        "quantised": [Markup(svg) for svg in _quantised(audit)],
    }


def _values(audit: Audit, name: str, subset: str) -> dict[str, Measured]:
    """A metric's values by model."""
    found = {role: audit.metric(name, subset, role) for role in ROLES}
    return {role: metric.value for role, metric in found.items() if metric}


def _plane(audit: Audit) -> Iterable[str]:
    """Forgetting against utility, when both were measured for the model after."""
    forgotten = _values(audit, "recall", "forget")
    candidates = (("model_utility", "general"), ("model_utility", "retain"), ("recall", "retain"))
    found = ((name, _values(audit, name, subset)) for name, subset in candidates)
    name, kept = next(((name, values) for name, values in found if "after" in values), ("", {}))
    points = {role: (forgotten[role], kept[role]) for role in ROLES if role in forgotten and role in kept}
    if points:
        up = "Recall of what was to be kept" if name == "recall" else "Model utility"
        told = "; ".join(f"{r} {number(x.value)} and {number(y.value)}" for r, (x, y) in points.items())
        yield figures.plane(points, "Recall of what was to be forgotten", up, f"Forgetting against utility: {told}")


def _probabilities(audit: Audit) -> Iterable[str]:
    """Measures of what is left of the forgotten, as points with intervals."""
    groups = {label(name): _values(audit, name, "forget") for name in SHARES}
    groups = {title: values for title, values in groups.items() if values}
    if groups:
        yield figures.dots(groups, "share or probability", "What is left of the forgotten, by measure and model")


def _attacks(audit: Audit) -> Iterable[str]:
    """What each attack draws from each model, a figure for each unit; then the curves of attacks that have them."""
    for unit in dict.fromkeys(attack.unit for attack in audit.attacks):
        groups: dict[str, dict[str, Measured]] = {}
        for attack in audit.attacks:
            if attack.unit == unit:
                values = {"before": attack.before, "after": attack.after, "reference": attack.reference}
                groups[label(attack.name)] = {role: value for role, value in values.items() if value}
        yield figures.bars(groups, visible(unit), f"Attacks by model: {visible(unit)}")
    for attack in audit.attacks:
        for name in [variant.name for variant in attack.variants if variant.roc][:1]:
            lines = {str(one.model): one.roc for one in attack.variants if one.name == name and one.roc}
            words = f"{label(attack.name)} by {label(name)}: true positives against false positives, by model"
            yield figures.curves(lines, "share of non-members taken for members", "share of members found", words)


def _curves(audit: Audit) -> Iterable[str]:
    """A figure for each thing that was trained on."""
    for title in dict.fromkeys(curve.title for curve in audit.curves):
        chosen = [curve for curve in audit.curves if curve.title == title]
        lines = {str(curve.model): [(float(p.step), p.recall) for p in curve.points] for curve in chosen}
        across = f"steps of training on {visible(title)}"
        yield figures.curves(lines, across, "Recall of the held-out facts", f"Relearning: {across}")


def _quantised(audit: Audit) -> Iterable[str]:
    """Recall after rounding: of what was to be forgotten, and of what was to be kept."""
    parts = (("forget_recall", "Recall of what was to be forgotten"), ("retain_recall", "Recall of the kept"))
    for field, across in parts:
        groups: dict[str, dict[str, Measured]] = {}
        for entry in audit.quantised:
            size = f"{entry.bits} bits, " + (f"groups of {entry.group}" if entry.group else "a scale per row")
            size = f"GGUF {visible(entry.file_type)}" if entry.file_type else size
            groups.setdefault(size, {})[entry.model] = getattr(entry, field)
        if groups:
            yield figures.bars(groups, across, f"{across} after rounding, by model")
