"""HTML pages: one run (accuracy matrix, metrics, accuracies over steps) and a comparison of strategies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from letheon.report import figures
from letheon.report.figures import FAINT, INK, canvas, look, spread, svg
from letheon.report.html import render
from letheon.report.numbers import interval, number
from letheon.retain.comparison import Entry, StrategyComparison
from letheon.retain.learned import Learned

SCENARIOS = {
    "class": "class-incremental (one head, the task is not known)",
    "task": "task-incremental (the task is known at test time)",
    "domain": "domain-incremental (every task has the same classes)",
}
# Metrics in the table of a comparison.
SHOWN = (
    "average accuracy",
    "forgetting",
    "forward transfer",
    "minimum accuracy",
    "worst-case accuracy",
    "average loss",
)
# What a strategy costs, beside them.
COSTS = ("parameters", "held, kB", "seconds")


def render_learning(learned: Learned) -> str:
    """Return the page of one run, from its record alone."""
    every = learned.settings.evaluate_every
    seen = f"every {every} steps" if every else "at the ends of tasks only: worst cases between them are not seen"
    return _page(
        title=f"{learned.strategy} on {learned.stream}",
        over=f"{len(learned.tasks)} tasks, {SCENARIOS[learned.scenario]}",
        words=f"{learned.steps:,} steps in {learned.seconds:.0f} s, evaluated {seen}.",
        columns=["measure", "value"],
        rows=[[name, number(value)] for name, value in learned.metrics.items()],
        note="Shares from 0 to 1, the loss in nats. Forgetting is measured from each task's own end; the minimum is "
        "that of each old task since then. Windowed values are the largest drop and rise within that many steps.",
        figures=[
            heat_map(learned.matrix.tolist(), learned.tasks),
            heat_map(learned.curve.matrix("loss").tolist(), learned.tasks, "loss"),
            accuracy_curves(learned),
        ],
        footer=f"Seed {learned.settings.seed}. Every evaluation is in learned.json beside this page.",
    )


def render_strategies(found: StrategyComparison) -> str:
    """Return the page of a comparison."""
    rows = []
    for entry in found.entries:
        if entry.error:
            rows.append([entry.strategy, f"did not run: {entry.error}", *[""] * (len(SHOWN) + len(COSTS) - 1)])
            continue
        cells = [entry.metrics[name] for name in SHOWN]
        shown = [f"{number(cell.value)} ({interval(cell)})" if interval(cell) else number(cell.value) for cell in cells]
        rows.append([entry.strategy, *shown, *_costs(entry)])
    known = {entry.strategy: entry.metrics["average accuracy"] for entry in found.entries if not entry.error}
    return _page(
        title=f"{len(found.entries)} strategies on {found.stream}",
        over=f"{SCENARIOS[found.scenario]}; model {found.model}",
        words=f"Seeds {', '.join(map(str, found.seeds))}: each gives every strategy the same first weights and order.",
        columns=["strategy", *SHOWN, *COSTS],
        rows=rows,
        note="Means over seeds, in brackets their 95 % bootstrap interval. Shares from 0 to 1, the loss in nats. "
        "Parameters are those of the model after the last task. Held is what the strategy holds beside the model then "
        "(stored rows, copies of weights, importances), in kilobytes of 1,000 bytes.",
        figures=[
            figures.dots({"average accuracy": known}, "share", "Average accuracy of each strategy with its interval")
        ]
        if known
        else [],
        footer="Every seed's numbers are in compare.json beside this page.",
    )


def _costs(entry: Entry) -> list[str]:
    """Return the cells of `COSTS`; empty where a run of an earlier version did not count them."""
    parameters, held = entry.parameters, entry.held_bytes
    counted = ["" if parameters is None else f"{parameters:,.0f}", "" if held is None else number(held / 1000)]
    return [*counted, f"{entry.seconds:.1f}"]


def _page(**parts: Any) -> str:
    parts["figures"] = [Markup(one) for one in parts["figures"]]
    return render("letheon.retain", "learning.html.j2", **parts)


def heat_map(matrix: Sequence[Sequence[float]], tasks: Sequence[str], what: str = "accuracy") -> str:
    """Return a heat map (SVG): one row after each task and one before all, one column per task's test rows."""
    known = [value for row in matrix for value in row if not math.isnan(value)]
    top = 1.0 if what == "accuracy" else max(known, default=1.0)
    with canvas(0.9 + 0.3 * len(matrix)) as (figure, axes):
        # drawn as shapes, since the page's security policy allows no images
        places = [range(len(tasks)), range(len(matrix))]
        axes.pcolormesh(*places, matrix, shading="nearest", vmin=0, vmax=top, cmap="Blues", edgecolors="#fefefe")
        axes.invert_yaxis()
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                if not math.isnan(value):
                    colour = "#fefefe" if value > 0.6 * top else "#22262b"
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
        names = [name if len(name) <= 12 else name[:11] + "…" for name in tasks]
        axes.set_xticks(range(len(tasks)), names)
        axes.set_yticks(range(len(matrix)), ["before", *names])
        axes.set(xlabel=f"{what} on the test rows of", ylabel="after")
        axes.spines[:].set_visible(False)
        return svg(figure, f"{what.capitalize()} on each of {len(tasks)} tasks before the first and after each task")


def accuracy_curves(learned: Learned) -> str:
    """Return a plot (SVG) of each task's accuracy over steps, with a line where a task ends."""
    curve = learned.curve
    with canvas(2.7) as (figure, axes):
        end = max(curve.step[-1], 1)
        axes.set(xlim=(-0.02 * end, 1.25 * end), ylim=(-0.04, 1.06), xlabel="steps", ylabel="accuracy")
        axes.grid(True, axis="y")
        for place in curve.ends[:-1]:
            axes.axvline(place, color=FAINT, linewidth=0.8, linestyle=":")
        series = [
            [(step, row[i]) for step, row in zip(curve.step, curve.accuracy, strict=True) if not math.isnan(row[i])]
            for i in range(curve.tasks)
        ]
        heights = spread([points[-1][1] for points in series], gap=0.09, bottom=0.0)
        for i, (points, height) in enumerate(zip(series, heights, strict=True)):
            seen = look("", i)
            axes.plot(*zip(*points, strict=True), seen.line, color=seen.colour, linewidth=1.3)
            name = learned.tasks[i]
            axes.text(1.02 * end, height, name[:16], va="center", color=seen.colour, fontweight="bold")
        axes.tick_params(labelcolor=INK)
        return svg(figure, f"Accuracy of each of {curve.tasks} tasks over {end} steps")
