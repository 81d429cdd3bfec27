"""The output of `letheon compare-strategies`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from letheon.printing.cells import add_columns, cell, print_json
from letheon.retain.page import SHOWN

if TYPE_CHECKING:
    from letheon.retain.comparison import StrategyComparison


def show_strategies(result: StrategyComparison, folder: Path, as_json: bool) -> None:
    """Print a table of the strategies and their metrics."""
    if as_json:
        print_json({**result.to_json(), "report": str(folder / "compare.html")})
        return
    title = f"{result.stream}, {result.scenario}-incremental, {len(result.seeds)} seeds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    add_columns(table, "strategy", *(name.replace("_", " ") for name in SHOWN))
    for entry in result.entries:
        cells = [cell(entry.metrics.get(name)) for name in SHOWN]
        table.add_row(Text(entry.strategy), *([Text(f"did not run: {entry.error}")] if entry.error else cells))
    console = Console()
    console.print(table)
    console.print(f"report: {folder / 'compare.html'}   numbers: {folder / 'compare.json'}", soft_wrap=True)
