"""A comparison of methods as one HTML file: the table, the plane with its front, relearning and rounding beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from letheon.report import figures
from letheon.report.numbers import Point
from letheon.report.page import environment

if TYPE_CHECKING:
    from letheon.compare.record import Comparison, Entry

# The table's columns in two groups, so that it stays readable on a phone.
GONE = ("forget recall", "forget extraction strength", "after first token", "paraphrased", "relearned", "4-bit recall")
KEPT = ("retain recall", "retain utility", "neighbours recall", "fluency", "damaged answers", "perplexity")
HEADLINE = {"pass": "passes", "fail": "fails", "inconclusive": "is inconclusive", "failed": "did not run"}


def render_comparison(comparison: Comparison) -> str:
    """The page as HTML text; nothing but the record is read."""
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            gone=GONE,
            kept=KEPT,
            verdicts=HEADLINE,
            models=_models(comparison),
            figures=[Markup(svg) for svg in _figures(comparison)],
        )
    )


def _models(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    """Rows of the tables: the methods, then the model before and the reference."""
    found = {entry.method: entry.numbers for entry in comparison.entries if entry.numbers}
    found["before"] = comparison.before
    if comparison.reference is not None:
        found["reference"] = comparison.reference
    return found


def _figures(comparison: Comparison) -> list[str]:
    models = _models(comparison)
    points = {
        name: (Point(numbers["forget extraction strength"]), Point(numbers["retain utility"]))
        for name, numbers in models.items()
    }
    front = [entry.method for entry in comparison.entries if entry.best]
    drawn = [
        figures.plane(
            points,
            "extraction strength of the forgotten",
            "utility on the kept",
            "Forgetting against utility of each method, with the front of those that no other beats in both",
            front=front,
        )
    ]
    relearned = {entry.method: entry.relearning for entry in _audited(comparison)}
    if any(relearned.values()):
        across, up = "steps of relearning on some of the facts", "recall of the others"
        drawn.append(figures.curves(relearned, across, up, "Recall of held-out facts while others are learned again"))
    rounded = {
        entry.method: {
            "as delivered": Point(entry.numbers["forget recall"]),
            "4 bits": Point(entry.numbers["4-bit recall"]),
        }
        for entry in _audited(comparison)
    }
    drawn.append(figures.bars(rounded, "recall of the forgotten", "Recall before and after rounding to four bits"))
    return drawn


def _audited(comparison: Comparison) -> list[Entry]:
    return [entry for entry in comparison.entries if entry.numbers]
