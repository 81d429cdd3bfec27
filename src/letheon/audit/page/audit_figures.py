"""Figures that only an audit has: attacks beside their controls, membership curves, distributions of ratios.

They take plain numbers and return `<svg>` elements, in the style of `figures.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from letheon.report.figures import FAINT, INK, LOOKS, canvas, look, short, svg, whisker
from letheon.report.numbers import WithInterval, number

STEPS = 400  # of a step curve at most


@dataclass(frozen=True)
class Attacked:
    """An attack in a figure.

    Attributes:
        before, after, reference: what it draws from each model; no reference where there is none.
        chance: the level that shows nothing.
        shows: whether the model before falls to it, so that it says something.
    """

    name: str
    before: WithInterval
    after: WithInterval
    reference: WithInterval | None
    chance: float
    shows: bool


def roc(lines: Mapping[str, Sequence[tuple[float, float]]], notes: Mapping[str, str], words: str) -> str:
    """Draw ROC curves of a membership test: true positives over false positives, and the line of chance.

    Args:
        lines: for each model its points (false positive rate, true positive rate).
        notes: what stands beside a model's name, such as its AUROC with the interval.
        words: a description for readers who cannot see the figure.
    """
    with canvas(3.3) as (figure, axes):
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes.set(xlabel="share of non-members taken for members", ylabel="share of members found")
        axes.grid(True)
        axes.plot([0, 1], [0, 1], ":", color=FAINT, linewidth=1.2, zorder=2)
        for i, (name, points) in enumerate(lines.items()):
            seen = look(name, i)
            layer = 4 if seen.line == "-" else 5
            axes.plot(*zip(*sorted(points), strict=True), seen.line, color=seen.colour, linewidth=1.8, zorder=layer)
        _legend(axes, {name: f"{name} {notes.get(name, '')}".strip() for name in lines})
        return svg(figure, words)


def distributions(samples: Mapping[str, Sequence[float]], across: str, words: str, centre: str = "") -> str:
    """Step curves of positive numbers on a logarithmic axis: the share of rows that lie at or below each number.

    Args:
        samples: for each model its numbers; those beyond a millionth and a million are drawn there.
        across: label of the horizontal axis.
        words: a description for readers who cannot see the figure.
        centre: what a number of 1 means, written beside a line there.
    """
    logs = {name: np.log10(np.clip(numbers, 1e-6, 1e6)) for name, numbers in samples.items() if len(numbers)}
    with canvas(2.7) as (figure, axes):
        everything = np.concatenate([*logs.values(), [-0.5, 0.5]])
        left, right = everything.min() - 0.15, everything.max() + 0.15
        axes.set(xlim=(left, right), ylim=(-0.03, 1.06), xlabel=across, ylabel="share of rows at or below")
        ticks = range(math.ceil(left), math.floor(right) + 1)
        axes.set_xticks(list(ticks), [f"{10.0**tick:g}" for tick in ticks])
        axes.grid(True, axis="y")
        axes.axvline(0, color=FAINT, linewidth=0.9, linestyle=":", zorder=2)
        if centre:
            axes.text(0.02, 1.03, centre, color=FAINT, fontsize=7.5, va="center")
        for i, (name, numbers) in enumerate(logs.items()):
            seen = look(name, i)
            shares = np.linspace(0, 1, min(len(numbers), STEPS) + 1)  # of many numbers, some quantiles
            places = np.quantile(numbers, shares[1:], method="inverted_cdf")
            axes.step(
                [left, *places, right],
                [0, *shares[1:], 1],
                seen.line,
                where="post",
                color=seen.colour,
                linewidth=1.7,
                zorder=4 if seen.line == "-" else 5,
            )
        _legend(axes, {name: name for name in logs})
        return svg(figure, words)


def attack_bars(families: Mapping[str, Sequence[Attacked]], across: str, words: str) -> str:
    """One bar an attack, from its level of chance to what the model after gives; the controls are marks in its row.

    Args:
        families: attacks by what they have in common, each family under its name.
        across: label of the horizontal axis.
        words: a description for readers who cannot see the figure.
    """
    places: list[float] = []
    rows = [row for family in families.values() for row in family]
    height = -1.0  # the first line explains the marks
    headings = []
    for title, family in families.items():
        height -= 1.25
        headings.append((height, title))
        for _ in family:
            height -= 1
            places.append(height)
    with canvas(0.55 + 0.19 * -height) as (figure, axes):
        axes.set(xlim=(-0.03, 1.24), ylim=(height - 0.8, 0.6), xlabel=across)
        axes.set_xticks([0, 0.5, 1.0], ["0", "0.5", "1"])
        axes.grid(True, axis="x")
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_yticks(places, [short(row.name) for row in rows])
        for tick, row, place in zip(axes.get_yticklabels(), rows, places, strict=True):
            tick.set_color(INK if row.shows else FAINT)
            _attacked(axes, row, place)
        for place, title in headings:
            axes.text(0, place, short(title, 60), fontweight="bold", color=INK, va="center", zorder=6)
        _explain(axes, any(row.chance for row in rows), any(row.reference is not None for row in rows))
        return svg(figure, words)


def _attacked(axes: Axes, row: Attacked, place: float) -> None:
    """One attack's row: bar, interval, controls, chance, number."""
    value = row.after.value
    seen = LOOKS["after"]
    if value is not None:
        axes.barh(
            place, value - row.chance, left=row.chance, height=0.5, color=seen.colour, alpha=1 if row.shows else 0.35
        )
        axes.plot(value, place, "|", color=seen.colour, markersize=7, markeredgewidth=2, zorder=4)
    whisker(axes, place, row.after, INK, width=0.8)
    for name, control in (("before", row.before), ("reference", row.reference)):
        if control is not None and control.value is not None:
            below = name == "reference"
            axes.plot(
                control.value,
                place,
                LOOKS[name].mark,
                color=LOOKS[name].colour,
                markersize=6.5 if below else 4.5,
                fillstyle="none" if below else "full",
                zorder=5 if below else 6,
            )
    if row.chance:
        axes.plot([row.chance] * 2, [place - 0.42, place + 0.42], ":", color=INK, linewidth=1.3, zorder=5)
    told = number(value) if row.shows or value is None else "shows nothing"
    small: dict[str, Any] = {} if row.shows and value is not None else {"fontsize": 6.5}
    axes.text(1.05, place, told, va="center", color=INK if row.shows else FAINT, **small)


def _explain(axes: Axes, chance: bool, reference: bool) -> None:
    """Explain the marks in the line above the first family."""
    told = [("before", "before", LOOKS["before"].mark), ("after", "after", "|")]
    told += [("reference", "reference", LOOKS["reference"].mark)] * reference
    place = 0.0
    for name, words, mark in told:
        colour = LOOKS[name].colour
        hollow = "none" if name == "reference" else "full"
        axes.plot(place + 0.012, -0.6, mark, color=colour, markersize=5.5, markeredgewidth=1.5, fillstyle=hollow)
        axes.text(place + 0.045, -0.6, words, color=colour, va="center", fontsize=7.5)
        place += 0.1 + 0.03 * len(words)
    if chance:
        axes.plot([place + 0.012] * 2, [-0.95, -0.25], ":", color=INK, linewidth=1.3)
        axes.text(place + 0.045, -0.6, "chance", color=FAINT, va="center", fontsize=7.5)


def _legend(axes: Axes, names: Mapping[str, str]) -> None:
    """Names in their colours at the lower right, where curves that rise to 1 leave room."""
    for i, (name, text) in enumerate(reversed(list(names.items()))):
        colour = look(name, len(names) - 1 - i).colour
        place = 0.05 + 0.085 * i
        style: dict[str, Any] = {"ha": "right", "color": colour, "fontweight": "bold", "zorder": 7}
        axes.text(0.97, place, short(text, 60), transform=axes.transAxes, **style)
