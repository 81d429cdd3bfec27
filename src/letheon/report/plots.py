"""Plots in the common style: a heat map with its numbers, a scatter plot with names, and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import FuncFormatter, NullLocator

from letheon.report.figures import FAINT, INK, PAPER, canvas, look, spread, svg
from letheon.report.numbers import number

# A heat map with more columns than this has no numbers in its cells.
MOST_NUMBERED = 16


def heat_map(
    values: Sequence[Sequence[float | None]],
    down: Sequence[str],
    across: Sequence[str],
    words: str,
    *,
    low: float,
    high: float,
) -> str:
    """Draw a heat map as an `<svg>` element: a cell is darker for larger values.

    Cells contain their numbers where there are at most 16 columns.

    Args:
        values: [down][across]; None leaves a cell empty.
        low, high: values of the lightest and the darkest colour.
        words: a description for readers who cannot see the figure.
    """
    with canvas(0.9 + min(0.26, 8 / len(down)) * len(down)) as (figure, axes):
        filled = [[low if value is None else value for value in row] for row in values]
        # an image would be a bitmap inside the page
        axes.pcolormesh(filled, cmap="Blues", vmin=low, vmax=high, edgecolors="none")
        axes.invert_yaxis()
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                if value is not None and len(across) <= MOST_NUMBERED:
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


def mean_course(courses: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """(step, mean over courses) from step 1 on, for `lines`; as long as the shortest course."""
    return [(float(i), sum(values) / len(values)) for i, values in enumerate(zip(*courses, strict=False), 1)]


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    words: str,
    *,
    log: bool = False,
    falling: bool = False,
) -> str:
    """An `<svg>` element with one line per series.

    Args:
        series: points by name, in the order in which they are joined.
        across, up: labels of the axes.
        words: a description for readers who cannot see the figure.
        log: both axes are logarithmic (all numbers positive).
        falling: the horizontal axis runs from high to low.
    """
    shown = {name: points for name, points in series.items() if points}
    with canvas(2.7) as (figure, axes):
        axes.set(xlabel=across, ylabel=up)
        axes.grid(True)
        if log:
            axes.set(xscale="log", yscale="log")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
                axis.set_minor_locator(NullLocator())
        for position, (name, points) in enumerate(shown.items()):
            seen = look(name, position)
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, seen.line, color=seen.colour, linewidth=1.6, marker=seen.mark, markersize=3)
        if falling:
            axes.invert_xaxis()
        axes.autoscale_view()  # limits are otherwise set when the figure is drawn, too late for the next lines
        # where the lines end, as shares of the axes; the names stand beside the frame
        place = axes.transAxes.inverted()
        ends = [place.transform(axes.transData.transform(points[-1]))[1] for points in shown.values()]
        for position, (name, height) in enumerate(zip(shown, spread(ends, gap=0.08, bottom=0.0), strict=True)):
            colour = look(name, position).colour
            beside = axes.text(1.02, height, name, va="center", fontweight="bold", color=colour)
            beside.set_transform(axes.transAxes)
        axes.tick_params(colors=FAINT)
        return svg(figure, words)
