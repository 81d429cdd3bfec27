"""Figures as inline SVG, in which each model has one colour and mark, and labels replace legends.

Each function takes numbers (or objects with `value`, `low`, `high`) and returns an `<svg>` element. Text stays text,
colours follow the page's light or dark theme through CSS variables (`--before`, `--ink`), and the same numbers give the
same bytes. A value of None has no mark; its row says that it is missing.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from letheon.report.numbers import WithInterval, number
from letheon.report.safe_text import visible


@dataclass(frozen=True)
class Look:
    """Colour (distinct for colour-blind readers), mark and line style of a model."""

    colour: str
    mark: str
    line: str = "-"


INK, FAINT, RULE, PAPER = "#22262b", "#666d76", "#d9dde2", "#fefefe"
LOOKS = {
    "before": Look("#6b727b", "o"),
    "after": Look("#0b66a8", "D"),
    "reference": Look("#a4610b", "s", "--"),
}
OTHERS = (
    Look("#0a7a68", "^"),
    Look("#8a4fa3", "v"),
    Look("#b03a5b", "P"),
    Look("#3d4f8f", "X"),
    Look("#7a6a10", "<"),
    Look("#b0561c", ">"),
    Look("#4c7d2b", "p"),
)
VARIABLES = {
    INK: "ink",
    FAINT: "faint",
    RULE: "rule",
    PAPER: "paper",
    **{look.colour: name for name, look in LOOKS.items()},
}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "letheon",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.major.pad": 6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
WIDTH = 4.2  # inches; on a phone the text is still readable, on a desk two figures stand side by side
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))

Values = Mapping[str, WithInterval]
Groups = Mapping[str, Values]
GroupRow = tuple[float, Look, WithInterval]  # height, look of the model, its value


def look(name: str, position: int = 0) -> Look:
    """Return the look of a model by its name, or of another series by its position."""
    return LOOKS.get(name, OTHERS[position % len(OTHERS)])


# Figures


def plane(
    points: Mapping[str, tuple[WithInterval, WithInterval]], across: str, up: str, words: str, front: Sequence[str] = ()
) -> str:
    """Draw forgetting against utility: each model is a point with the intervals of both measurements.

    Args:
        points: forget recall and retained utility per model, both as shares.
        across: label of the horizontal axis.
        up: label of the vertical axis.
        words: a description for readers who cannot see the figure.
        front: names of points on the Pareto front, which a line joins.
    """
    with canvas(3.1) as (figure, axes):
        shown = [(look(name, i), name, *point) for i, (name, point) in enumerate(points.items())]
        shown = [entry for entry in shown if entry[2].value is not None and entry[3].value is not None]
        wanted = [(y.value or 0.0) - 0.06 for _, _, _, y in shown]
        heights = spread(wanted, gap=0.075, bottom=-0.04)
        crowded = any(abs(height - near) > 0.1 for height, near in zip(heights, wanted, strict=True))
        if crowded:  # the names stand in a column, in the order of the points, each joined to its own
            ranks = sorted(range(len(shown)), key=lambda i: (-wanted[i], shown[i][2].value))
            heights = [1.0 - ranks.index(i) / (len(shown) - 1) for i in range(len(shown))]
        axes.set(xlim=(-0.06, 1.6 if crowded else 1.06), ylim=(-0.06, 1.14), xlabel=across, ylabel=up)
        axes.grid(True)
        axes.text(0, 1.075, "forgotten and kept", color=FAINT, fontsize=7.5, va="center")
        joined = sorted((x.value or 0.0, y.value or 0.0) for _, name, x, y in shown if name in front)
        axes.plot([x for x, _ in joined], [y for _, y in joined], color=FAINT, linewidth=1.0, linestyle=":", zorder=3)
        for (seen, name, x, y), height in zip(shown, heights, strict=True):
            across_at, up_at = x.value or 0.0, y.value or 0.0
            whisker(axes, up_at, x, seen.colour, width=1.2)
            whisker(axes, across_at, y, seen.colour, width=1.2, upright=True)
            _mark(axes, across_at, up_at, seen)
            left = across_at > 0.7 and not crowded
            start = 1.1 if crowded else across_at + (-0.03 if left else 0.03)
            if crowded:
                axes.plot([across_at, start - 0.02], [up_at, height], color=seen.colour, linewidth=0.6, zorder=2)
            side = "right" if left else "left"
            axes.text(start, height, short(name), ha=side, va="center", color=seen.colour, fontweight="bold")
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        return svg(figure, words)


def curves(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    words: str,
    level: float | None = None,
    reached: Mapping[str, float] | None = None,
    beside: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    ends: Sequence[float] = (),
) -> str:
    """Draw a share (0 to 1) over training steps: one line per model, named at its end.

    Args:
        level: a share to mark, such as half of the initial one.
        reached: the step at which each model reaches that level.
        beside: a second share per model, drawn as a thin line in its colour.
        ends: steps to mark, such as the ends of tasks.
    """
    with canvas(2.5) as (figure, axes):
        end = max((x for points in lines.values() for x, _ in points), default=1.0) or 1.0
        axes.set(xlim=(-0.02 * end, 1.28 * end), ylim=(-0.06, 1.06), xlabel=across, ylabel=up)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.grid(True, axis="y")
        shown = [(look(name, i), name, sorted(p)) for i, (name, p) in enumerate(lines.items()) if p]
        heights = spread([points[-1][1] for _, _, points in shown], gap=0.1, bottom=0.0)
        for (seen, name, points), height in zip(shown, heights, strict=True):
            steps, shares = zip(*points, strict=True)
            # dashes lie above full lines, so that two equal curves are both seen
            layer = 4 if seen.line == "-" else 5
            axes.plot(steps, shares, seen.line, color=seen.colour, linewidth=1.8, zorder=layer)
            axes.plot(steps, shares, seen.mark, color=seen.colour, markersize=3.5, zorder=6)
            start = points[-1][0] + 0.04 * end
            axes.text(start, height, short(name), va="center", color=seen.colour, fontweight="bold")
            thin = sorted((beside or {}).get(name, ()))
            if thin:
                axes.plot(*zip(*thin, strict=True), seen.line, color=seen.colour, linewidth=0.7, zorder=3)
        for place in ends:
            axes.axvline(place, color=FAINT, linewidth=0.8, linestyle=":", zorder=1)
        if level is not None:
            axes.plot([0, end], [level, level], ":", color=FAINT, linewidth=1.0, zorder=2)
            for name, place in (reached or {}).items():
                axes.plot([place, place], [0, level], ":", color=look(name).colour, linewidth=1.4, zorder=3)
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= end])
        return svg(figure, words)


def bars(groups: Groups, across: str, words: str) -> str:
    """Draw horizontal bars of shares: one group per test, one bar per model, the number at the right."""
    with _grouped(groups, across) as (figure, axes, rows):
        for height, seen, measured in rows:
            axes.barh(height, measured.value or 0.0, height=0.7, color=seen.colour, zorder=3)
            whisker(axes, height, measured, INK, width=0.8)
        axes.axvline(0, color=FAINT, linewidth=0.8, zorder=4)
        return svg(figure, words)


def dots(groups: Groups, across: str, words: str) -> str:
    """Draw points with intervals: one group per metric, one mark per model, the number at the right."""
    with _grouped(groups, across) as (figure, axes, rows):
        for height, seen, measured in rows:
            whisker(axes, height, measured, seen.colour, width=1.3)
            if measured.value is not None:
                _mark(axes, measured.value, height, seen)
        return svg(figure, words)


# Parts of figures


@contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, Axes]]:
    """Make a figure in the common style without changing matplotlib's global state."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


@contextmanager
def _grouped(groups: Groups, across: str) -> Iterator[tuple[Figure, Axes, list[GroupRow]]]:
    """Lay out rows from top to bottom: the group's name above, the model's at the left, the number at the right.

    The axis begins at 0, or at -1 where a value is negative (correlations, differences).
    """
    rows: list[GroupRow] = []
    titles: list[tuple[float, str]] = []
    names: list[str] = []
    height = 0.0
    for title, values in groups.items():
        titles.append((height, title))
        for position, (name, measured) in enumerate(values.items()):
            height -= 1
            rows.append((height, look(name, position), measured))
            names.append(name)
        height -= 1.5
    with canvas(0.6 + 0.18 * -height) as (figure, axes):
        low = -1 if any((measured.value or 0) < -0.015 for _, _, measured in rows) else 0
        axes.set(xlim=(low - 0.015, 1.34), ylim=(height + 0.8, 0.7), xlabel=across)
        ticks = {-1.0: "−1", 0.0: "0", 1.0: "1"} if low else {0.0: "0", 0.5: "0.5", 1.0: "1"}
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.grid(True, axis="x")
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_yticks([place for place, _, _ in rows], [short(name) for name in names])
        for tick, (place, seen, measured) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_color(seen.colour)
            colour = FAINT if measured.value is None else INK
            axes.text(1.06, place, number(measured.value), va="center", color=colour)
        for place, title in titles:
            axes.text(low + 0.012, place, short(title, 60), fontweight="bold", va="center", zorder=6)
        yield figure, axes, rows


def short(name: str, length: int = 30) -> str:
    """Shorten a name to fit into a figure."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def whisker(axes: Axes, place: float, measured: WithInterval, colour: str, width: float, upright: bool = False) -> None:
    """Draw an interval as a thin line at a height (or, if upright, at a horizontal position)."""
    if measured.low is not None and measured.high is not None:
        along, beside = [measured.low, measured.high], [place, place]
        points = (beside, along) if upright else (along, beside)
        axes.plot(*points, color=colour, linewidth=width, zorder=4)


def _mark(axes: Axes, x: float, y: float, seen: Look) -> None:
    """Draw a model's mark; the reference's is larger and below, so that equal points are both visible."""
    below = seen.line != "-"
    axes.plot(x, y, seen.mark, color=seen.colour, markersize=8 if below else 5.5, zorder=5 if below else 6)


def spread(wanted: Sequence[float], gap: float, top: float = 1.0, bottom: float = -1.0) -> list[float]:
    """Place labels near the wanted heights, at least `gap` apart and between `bottom` and `top`."""
    order = sorted(range(len(wanted)), key=lambda index: -wanted[index])
    placed = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        ceiling = placed[order[rank - 1]] - gap if rank else top
        placed[index] = min(wanted[index], ceiling)
    floor = bottom
    for index in reversed(order):
        placed[index] = max(placed[index], floor)
        floor = placed[index] + gap
    return placed


def svg(figure: Figure, words: str) -> str:
    """Render a figure as an `<svg>` element that scales, follows the page's theme and has a text description."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": words}), warnings.catch_warnings():
        # the salt makes identifiers differ between the figures of one page; the reader's fonts draw the text, not ours
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    text = buffer.getvalue()
    head, body = text[text.index("<svg") :].split(">", 1)  # the part before it names an external address
    head = re.sub(r'\s(width|height|version)="[^"]*"', "", head)
    body = re.sub(
        r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL
    )  # it would apply to the whole page
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))
    body = re.sub(r'\sid="([^"]*)"', lambda found: found.group(0) if found.group(1) in used else "", body)
    body = body.replace("'DejaVu Sans', sans-serif", "system-ui, sans-serif")
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var(--{variable}, {colour})")
    label = html.escape(visible(words), quote=True)
    return f'{head} stroke-linejoin="round" role="img" aria-label="{label}">{visible(body.strip())}'
