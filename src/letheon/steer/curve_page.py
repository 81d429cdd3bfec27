"""The HTML page of a curve: figures of effect and side effects over strengths, the table, and examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup
from matplotlib.ticker import LogLocator, NullFormatter

from letheon.report.figures import FAINT, canvas, look, svg
from letheon.report.html import environment
from letheon.report.numbers import interval, number
from letheon.steer.curve import Curve, Point, highest

COLUMNS = ("strength", "target rate", "random rate", "perplexity", "KL, nats", "refusals", "repetition")


def render_curve(curve: Curve) -> str:
    """Return the page, from the record alone."""
    shown = curve.points[-1]
    if curve.recommended is not None:
        shown = next(point for point in curve.points if point.strength == curve.recommended)
    start = next(point for point in curve.points if point.strength == 0)
    recommended = "none" if curve.recommended is None else f"{curve.recommended:g}"
    return (
        environment("letheon.steer")
        .get_template("curve.html.j2")
        .render(
            curve=curve,
            recommended=recommended,
            columns=COLUMNS,
            rows=curve_rows(curve),
            figures=[Markup(one) for one in _figures(curve)],
            examples=list(zip(curve.prompts, start.answers, shown.answers, strict=True))[:6],
            shown=f"{shown.strength:g}",
        )
    )


def curve_rows(curve: Curve) -> list[list[str]]:
    """Return the table of a curve, a row per strength with the cells of `COLUMNS`."""
    rows = []
    for at, point in enumerate(curve.points):
        target = number(point.target.value) + (f" ({interval(point.target)})" if interval(point.target) else "")
        random = "-" if point.strength == 0 or not curve.random else number(highest(curve.random, at))
        others = (point.perplexity, point.kl, point.refusals, point.repetition)
        rows.append([f"{point.strength:g}", target, random, *map(number, others)])
    return rows


def _figures(curve: Curve) -> list[str]:
    values: dict[str, Callable[[Point], float]] = {
        "target rate": lambda point: point.target.value or 0.0,
        "perplexity": lambda point: point.perplexity,
        "KL at the next token": lambda point: point.kl,
        "repetition": lambda point: point.repetition,
    }
    return [_figure(curve, name, value) for name, value in values.items()]


def _figure(curve: Curve, name: str, value: Callable[[Point], float]) -> str:
    """Draw one measure over strengths: the steering as a strong line, random directions as faint ones."""
    with canvas(2.4) as (figure, axes):
        axes.set(xlabel="strength", ylabel=name)
        axes.grid(True)
        for points in curve.random:
            axes.plot(*_series(points, value), color=FAINT, linewidth=1.0, linestyle=":")
        seen = look("after")
        axes.plot(*_series(curve.points, value), color=seen.colour, marker=seen.mark, markersize=3.5, linewidth=1.6)
        if name == "perplexity":
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")  # powers would be formulas, which SVG has not
            axes.yaxis.set_minor_formatter(NullFormatter())
        if curve.recommended is not None:
            axes.axvline(curve.recommended, color=FAINT, linewidth=0.8)
        words = f"{name.capitalize()} over strengths; dotted: random directions of equal norms"
        return svg(figure, words)


def _series(points: Sequence[Point], value: Callable[[Point], float]) -> tuple[list[float], list[float]]:
    return [point.strength for point in points], [value(point) for point in points]
