"""A circuit as a map: layers from bottom to top, heads and the MLP from left to right, coloured by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from letheon.report.figures import FAINT, INK, OTHERS, RULE, canvas, svg

COLOURS = {"forget": OTHERS[2].colour, "retain": OTHERS[0].colour, "shared": OTHERS[1].colour}
LETTERS = {"forget": "F", "retain": "R", "shared": "S"}


def circuit_map(table: Sequence[Mapping[str, Any]], words: str) -> str:
    """Draw an `<svg>` element: one square per module, its group as colour and letter, its larger score as size.

    Args:
        table: one row per module with `layer`, `head` (None: the MLP), `forget`, `retain` (scores) and `group`.
        words: a description for readers who cannot see the figure.
    """
    heads = 1 + max((row["head"] for row in table if row["head"] is not None), default=0)
    layers = 1 + max(row["layer"] for row in table)
    largest = max(max(row["forget"], row["retain"], 0.0) for row in table) or 1.0
    with canvas(0.9 + 0.22 * layers) as (figure, axes):
        axes.set(xlim=(-0.8, heads + 0.9), ylim=(-0.8, layers - 0.2), xlabel="head", ylabel="layer")
        axes.set_xticks([*range(heads), heads + 0.2], [*map(str, range(heads)), "MLP"])
        axes.set_yticks(range(layers))
        for row in table:
            x, y = (heads + 0.2 if row["head"] is None else row["head"]), row["layer"]
            size = 3 + 8 * max(row["forget"], row["retain"], 0.0) / largest
            colour = COLOURS.get(row["group"])
            axes.plot(x, y, "s", color=colour or RULE, markersize=size)
            if colour:
                axes.text(x + 0.22, y + 0.18, LETTERS[row["group"]], color=INK, fontsize=6.5)
        names = [("forget-specific (F)", "forget"), ("retain-specific (R)", "retain"), ("shared (S)", "shared")]
        for place, (name, group) in enumerate(names):
            axes.text(place / 3, 1.03, name, color=COLOURS[group], transform=axes.transAxes, fontweight="bold")
        axes.tick_params(colors=FAINT)
        return svg(figure, words)
