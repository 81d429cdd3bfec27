"""A measurement as one HTML file: scores with intervals, a figure, remarks, configuration, unreadable answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from letheon.report import figures
from letheon.report.html import environment
from letheon.report.numbers import WithInterval

if TYPE_CHECKING:
    from letheon.measure.measurement import Measurement

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0"}
SHOWN = 20  # items that could not be read


def render_measurement(result: Measurement) -> str:
    """Render a measurement as HTML text."""
    scores = result.scores.scores
    unread = [record for record in result.scores.records if record.get("parsed") is None]
    return (
        environment("letheon.measure")
        .get_template("measurement.html.j2")
        .render(
            result=result,
            shown=[score for score in scores if score.name in result.columns],
            every=scores,
            arrows=ARROWS,
            figure=Markup(_shares(result)),
            unread=unread[:SHOWN],
            unread_count=len(unread),
            facts=_flat(result.config),
        )
    )


def _shares(result: Measurement) -> str:
    """Draw the scores of the table that lie between -1 and 1 (shares, correlations); empty text if there are none."""
    values: dict[str, dict[str, WithInterval]] = {}
    for score in result.scores.scores:
        value = score.estimate.value
        if score.name in result.columns and value is not None and -1 <= value <= 1:
            values[score.name] = {result.model: score.estimate}
    if not values:
        return ""
    return figures.dots(values, "score", f"Scores of {result.model} under {result.measure} with 95 % intervals")


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """List nested settings as dotted names and texts."""
    if isinstance(value, dict) and value:
        return [entry for key, item in value.items() for entry in _flat(item, f"{name}.{key}" if name else str(key))]
    return [(name, str(value))]
