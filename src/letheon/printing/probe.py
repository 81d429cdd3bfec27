"""The output of `letheon probe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from letheon.printing.cells import CLOSE, new_table, one_line, print_json
from letheon.report.numbers import number

if TYPE_CHECKING:
    from letheon.probe.record import Cell, ProbeReport

# Longer tables are cut on the terminal; the page and the JSON file have every row.
MOST_ROWS = 20


def show_probe(report: ProbeReport, folder: Path | None, as_json: bool) -> None:
    """Print the headline, the tables and the checks of a probe."""
    if as_json:
        print_json(report.to_json())
        return
    console = Console()
    console.print(Text(one_line(report.headline, 600), style="bold"))
    for shown in report.tables:
        table = new_table(Text(one_line(shown.title)), *shown.columns, **CLOSE)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in shown.rows[:MOST_ROWS]:
            table.add_row(*(Text(_text(cell)) for cell in row))
        console.print(table)
        if len(shown.rows) > MOST_ROWS:
            console.print(f"... and {len(shown.rows) - MOST_ROWS} more rows")
    table = new_table("How reliable the result is", "check", "value", "expected", "", **CLOSE)
    table.columns[1].justify = "right"
    for check in report.checks:
        verdict = {None: "not computable", True: "as expected", False: "not as expected"}[check.passed]
        style = {None: "yellow", True: "green", False: "red"}[check.passed]
        table.add_row(Text(check.name), number(check.value), check.expected, Text(verdict, style=style))
    console.print(table)
    for note in report.notes:
        console.print(Text(f"note: {one_line(note, 400)}", style="yellow"))
    if folder is not None:
        console.print(f"report: {folder / report.probe}.html", soft_wrap=True, markup=False)


def _text(cell: Cell) -> str:
    """Format a cell; a count has no decimals."""
    return one_line(str(cell)) if isinstance(cell, (str, int)) else number(cell)
