"""Two plots in the common style: a heat map with its numbers, and a scatter plot with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from letheon.report.figures import FAINT, INK, PAPER, canvas, look, svg
from letheon.report.numbers import number


def heat_map(
    values: Sequence[Sequence[float | None]],
    down: Sequence[str],
    across: Sequence[str],
    words: str,
    *,
    low: float,
    high: float,
) -> str:
    """Draw a heat map as an `<svg>` element: each cell contains its number and is darker for larger values.

    Args:
        values: [down][across]; None leaves a cell empty.
        low, high: values of the lightest and the darkest colour.
        words: a description for readers who cannot see the figure.
    """
    with canvas(0.9 + 0.26 * len(down)) as (figure, axes):
        filled = [[low if value is None else value for value in row] for row in values]
        # an image would be a bitmap inside the page
        axes.pcolormesh(filled, cmap="Blues", vmin=low, vmax=high, edgecolors="none")
        axes.invert_yaxis()
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                if value is not None:
                    dark = value - low > (high - low) / 2
                    text = number(round(value, 2))
                    axes.text(
                        x + 0.5, y + 0.5, text, ha="center", va="center", color=PAPER if dark else INK, fontsize=7
                    )
        axes.set_xticks([x + 0.5 for x in range(len(across))], list(across), rotation=40, ha="right")
        axes.set_yticks([y + 0.5 for y in range(len(down))], list(down))
        return svg(figure, words)


def scatter(points: Mapping[str, tuple[float, float]], across: str, up: str, words: str, *, named: bool = True) -> str:
    """Draw a scatter plot as an `<svg>` element, with each point's name next to its mark.

    Args:
        points: name -> (x, y).
        across, up: labels of the axes.
        words: a description for readers who cannot see the figure.
        named: whether to write names; many points are clearer without.
    """
    with canvas(2.7) as (figure, axes):
        axes.set(xlabel=across, ylabel=up)
        axes.grid(True)
        axes.margins(0.15)
        seen = look("after")
        for name, (x, y) in points.items():
            axes.plot(x, y, seen.mark, color=seen.colour, markersize=4.5)
            if named:
                axes.annotate(name, (x, y), (4, 4), textcoords="offset points", color=INK, fontsize=7.5)
        axes.tick_params(colors=FAINT)
        return svg(figure, words)
