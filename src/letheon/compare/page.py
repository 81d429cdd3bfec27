"""Methods or audits beside each other as one HTML file: tables, the plane with its front, relearning and rounding."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from letheon.audit.record.evidence import Attack
from letheon.compare.audits import Audits
from letheon.compare.record import Comparison, Entry
from letheon.report import figures
from letheon.report.html import render
from letheon.report.numbers import Point

Numbers = dict[str, dict[str, float | None]]

# The table's columns in two groups, so that it stays readable on a phone.
GONE = ("forget recall", "forget extraction strength", "after first token", "paraphrased", "relearned", "4-bit recall")
KEPT = ("retain recall", "retain utility", "neighbours recall", "fluency", "damaged answers", "perplexity")
HEADLINE = {"pass": "passes", "fail": "fails", "inconclusive": "is inconclusive", "failed": "did not run"}


def render_comparison(comparison: Comparison) -> str:
    """The page of a comparison as HTML text; nothing but the record is read."""
    others: Numbers = {"before": comparison.before}
    if comparison.reference is not None:
        others["reference"] = comparison.reference
    return _page("comparison.html.j2", comparison.entries, others, comparison=comparison)


def render_audits(audits: Audits, sources: Sequence[str]) -> str:
    """The page of several audits as HTML text.

    Args:
        sources: the files that they were read from.
    """
    attacks: dict[str, dict[str, Attack]] = {}
    for name, record in audits.records.items():
        for attack in record.attacks:
            attacks.setdefault(attack.name, {})[name] = attack
    values = {"audits": audits, "attacks": attacks, "sources": sources}
    return _page("audits.html.j2", audits.entries, audits.others, **values)


def _page(template: str, entries: Sequence[Entry], others: Numbers, **values: Any) -> str:
    """Render a page whose tables show what is compared, then the models before and the references."""
    models = {entry.method: entry.numbers for entry in entries if entry.numbers} | others
    shared = {"gone": GONE, "kept": KEPT, "verdicts": HEADLINE, "models": models}
    drawn = [Markup(svg) for svg in _figures(entries, models)]
    return render("letheon.compare", template, **shared, figures=drawn, **values)


def _figures(entries: Sequence[Entry], models: Numbers) -> list[str]:
    points = {
        name: (Point(numbers["forget extraction strength"]), Point(numbers["retain utility"]))
        for name, numbers in models.items()
    }
    front = [entry.method for entry in entries if entry.best]
    across, up = "extraction strength of the forgotten", "utility on the kept"
    words = "Forgetting against utility, with the front of those that no other beats in both"
    drawn = [figures.plane(points, across, up, words, front=front)]
    measured = [entry for entry in entries if entry.numbers]
    relearned = {entry.method: entry.relearning for entry in measured}
    if any(relearned.values()):
        across, up = "steps of relearning on some of the facts", "recall of the others"
        drawn.append(figures.curves(relearned, across, up, "Recall of held-out facts while others are learned again"))
    rounded = {
        entry.method: {
            "as delivered": Point(entry.numbers["forget recall"]),
            "4 bits": Point(entry.numbers["4-bit recall"]),
        }
        for entry in measured
    }
    drawn.append(figures.bars(rounded, "recall of the forgotten", "Recall before and after rounding to four bits"))
    return drawn
