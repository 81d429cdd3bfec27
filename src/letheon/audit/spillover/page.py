"""Refusals before and after narrow unlearning as one HTML file: rates, similarity, and some answers that changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from letheon.audit.page.drawings import Drawn
from letheon.core.atomic import atomic_write_text, write_json
from letheon.report.figures import bars
from letheon.report.html import environment
from letheon.report.plots import heat_map, scatter

if TYPE_CHECKING:
    from letheon.audit.spillover.spillover import SpilloverReport

FILES = ("spillover.html", "spillover.json")
SHOWN = 12  # answers, those that changed their kind first


def render_spillover(report: SpilloverReport) -> str:
    """The page as HTML text; nothing but the report is read."""
    changed = sorted(report.answers, key=lambda row: row["kind_before"] == row["kind_after"])
    return (
        environment("letheon.audit.spillover")
        .get_template("spillover.html.j2")
        .render(
            report=report,
            affected=report.affected,
            similarity=report.early_similarity(),
            figures=figures(report),
            answers=changed[:SHOWN],
        )
    )


def save_spillover(report: SpilloverReport, folder: Path) -> None:
    """Write page and numbers."""
    write_json(folder / FILES[1], report.to_json())
    atomic_write_text(folder / FILES[0], render_spillover(report))


def figures(report: SpilloverReport) -> list[Drawn]:
    """Rates by domain, loss over similarity, and the domains' similarity at the first, middle and last layer."""
    groups = {
        domain: {"before": before.refuse, "after": report.rates_after[domain].refuse}
        for domain, before in report.rates_before.items()
    }
    words = "Share of prompts refused before and after, by domain."
    drawn = [Drawn(Markup(bars(groups, "share of prompts refused", words)), words)]
    points = {
        domain: (value, report.drops[domain].value)
        for domain, value in report.early_similarity().items()
        if domain != report.unlearned
    }
    words = f"Refusals that each domain lost, over its similarity to {report.unlearned} in early layers."
    axes = f"similarity to {report.unlearned}", "share of refusals lost"
    drawn.append(Drawn(Markup(scatter(points, *axes, words)), words))
    last = len(report.similarity) - 1
    for layer in dict.fromkeys((0, last // 2, last)):
        words = f"Similarity of the domains' concept vectors at layer {layer} of {last}, in the model before."
        svg = heat_map(report.similarity[layer], report.domains, report.domains, words, low=-1, high=1)
        drawn.append(Drawn(Markup(svg), words))
    return drawn
