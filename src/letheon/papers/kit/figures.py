"""Line figures of reproductions: plain or logarithmic axes, each line named at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import FuncFormatter, NullLocator

from letheon.report.figures import FAINT, canvas, look, spread, svg
from letheon.report.numbers import number


def mean_course(courses: Sequence[Sequence[float]], every: int = 1) -> list[tuple[float, float]]:
    """(step, mean over seeds), from courses with one value after every `every` steps, as long as the shortest one."""
    return [(float(i * every), sum(values) / len(values)) for i, values in enumerate(zip(*courses, strict=False), 1)]


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
