"""The output of `letheon compare-strategies`."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.text import Text

from letheon.printing.cells import cell, new_table, print_files, print_json
from letheon.retain.comparison import StrategyComparison
from letheon.retain.page import SHOWN


def show_strategies(result: StrategyComparison, folder: Path, as_json: bool) -> None:
    """Print a table of the strategies and their metrics."""
    if as_json:
        print_json({**result.to_json(), "report": str(folder / "compare.html")})
        return
    title = f"{result.stream}, {result.scenario}-incremental, {len(result.seeds)} seeds"
    columns = (name.replace("_", " ") for name in SHOWN)
    table = new_table(title, "strategy", *columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for entry in result.entries:
        cells = [cell(entry.metrics.get(name)) for name in SHOWN]
        table.add_row(Text(entry.strategy), *([Text(f"did not run: {entry.error}")] if entry.error else cells))
    console = Console()
    console.print(table)
    print_files(console, folder / "compare.html", folder / "compare.json")
