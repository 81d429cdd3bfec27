"""Tables that set several side by side: methods, models on a benchmark, tasks of a stream, strategies."""

from __future__ import annotations

from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from letheon.printing.cells import cell, one_line, print_json

if TYPE_CHECKING:
    from letheon.compare.record import Comparison
    from letheon.measure.benchmark import Bench
    from letheon.retain.comparison import StrategyComparison
    from letheon.retain.learned import Learned


def show_comparison(comparison: Comparison, folder: Path, as_json: bool) -> None:
    """The table of a comparison: the choice of each method, what is gone, what is kept."""
    if as_json:
        print_json({**comparison.to_json(), "report": str(folder / "compare.html")})
        return
    from letheon.report.numbers import number

    table = Table(title=f"{len(comparison.entries)} methods on request {comparison.request}")
    columns = ("forget extraction strength", "relearned", "4-bit recall", "retain utility", "damaged answers")
    for name in ("method", "verdict", "rate", *columns):
        table.add_column(name, overflow="fold")
    for entry in comparison.entries:
        rate = f"{entry.chosen.learning_rate:.2g}" if entry.chosen and entry.chosen.learning_rate else ""
        numbers = [number(entry.numbers.get(name)) if entry.numbers else "" for name in columns]
        name = f"{entry.method} *" if entry.best else entry.method
        table.add_row(name, entry.error or entry.outcome, rate, *numbers)
    for name, found in (("before", comparison.before), ("reference", comparison.reference)):
        if found is not None:
            table.add_row(f"[dim]{name}", "", "", *(number(found.get(column)) for column in columns))
    console = Console()
    console.print(table)
    console.print("* no other method both forgets more (extraction strength) and keeps more (utility)")
    chosen = next((one.chosen for one in comparison.entries if one.chosen is not None), None)
    if chosen is not None:
        run = folder / chosen.folder
        whole = join(["letheon", "audit", comparison.model, f"{run / 'model'}", "--request", f"{run / 'request.json'}"])
        console.print(f"These are quick audits; the whole one of a run: {whole}", soft_wrap=True, markup=False)
    console.print(f"report: {folder / 'compare.html'}   numbers: {folder / 'compare.json'}", soft_wrap=True)


def show_bench(found: Bench, folder: Path, as_json: bool) -> None:
    """The table of a bench: a column a model, a row for each of the field's columns, whose names are long."""
    if as_json:
        print_json({**found.to_json(), "report": str(folder / "bench.html")})
        return
    from letheon.report.numbers import number

    measured = [(one, {score.name: score for score in one.scores.scores}) for one in found.models if one.scores]
    table = Table(title=f"{found.benchmark} {found.split}")
    for heading in ("", *(one.name for one, _ in measured)):
        table.add_column(Text(heading), overflow="fold")
    for name in found.columns:
        values = [scores[name].estimate.value if name in scores else None for _, scores in measured]
        table.add_row(name, *("" if value is None else number(value) for value in values))
    console = Console()
    console.print(table)
    for one in found.models:
        if one.scores is None:
            console.print(Text(f"{one.name} came to no result: {one.error}"))
    console.print(f"report: {folder / 'bench.html'}   numbers: {folder / 'bench.json'}", soft_wrap=True, markup=False)


def show_learned(learned: Learned, as_json: bool) -> None:
    """The matrix and the metrics of a run of `letheon learn`."""
    if as_json:
        folder = str(learned.folder) if learned.folder else None
        print_json({**learned.to_json(), "matrix": learned.matrix.tolist(), "folder": folder})
        return
    from letheon.report.numbers import number

    console = Console()
    for what, unit in (("accuracy", ""), ("loss", ", nats")):
        title = f"{learned.strategy} on {learned.stream}: {what}{unit}"
        table = Table(title=Text(one_line(title, 100)), title_justify="left")
        for heading in ("after", *learned.tasks):
            table.add_column(Text(one_line(heading, 24)), overflow="fold")
        for name, row in zip(["(before)", *learned.tasks], learned.curve.matrix(what), strict=True):
            table.add_row(Text(one_line(name, 24)), *(number(float(value)) for value in row))
        console.print(table)
    for name, value in learned.metrics.items():
        console.print(f"[dim]{name}[/] {number(value)}")
    if learned.folder is not None:
        console.print(
            f"report: {learned.folder / 'learn.html'}   numbers: {learned.folder / 'learned.json'}", soft_wrap=True
        )


def show_strategies(found: StrategyComparison, folder: Path, as_json: bool) -> None:
    """The table of a comparison of strategies."""
    if as_json:
        print_json({**found.to_json(), "report": str(folder / "compare.html")})
        return
    from letheon.retain.page import SHOWN

    table = Table(title=f"{found.stream}, {found.scenario}-incremental, {len(found.seeds)} seeds", title_justify="left")
    for heading in ("strategy", *SHOWN):
        table.add_column(heading, overflow="fold")
    for entry in found.entries:
        cells = [cell(entry.metrics.get(name)) for name in SHOWN]
        table.add_row(Text(entry.strategy), *([Text(f"did not run: {entry.error}")] if entry.error else cells))
    console = Console()
    console.print(table)
    console.print(f"report: {folder / 'compare.html'}   numbers: {folder / 'compare.json'}", soft_wrap=True)
