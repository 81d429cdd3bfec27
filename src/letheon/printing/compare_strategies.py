"""The output of `letheon compare-strategies`."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from letheon.core.statistics import Estimate
from letheon.printing.cells import CLOSE, new_table, print_files, print_json, recipe_lines
from letheon.retain.comparison import StrategyComparison
from letheon.retain.page import SHOWN


def show_strategies(result: StrategyComparison, folder: Path, as_json: bool) -> None:
    """Print a table of the strategies and their metrics."""
    if as_json:
        print_json({**result.to_json(), "report": str(folder / "compare.html")})
        return
    title = f"{result.stream}, {result.scenario}-incremental, {len(result.seeds)} seeds"
    columns = (name.replace("_", " ") for name in SHOWN)
    table = new_table(title, "strategy", *columns, **CLOSE)
    for entry in result.entries:
        cells = [] if entry.error else [_cell(entry.metrics.get(name)) for name in SHOWN]
        table.add_row(Text(recipe_lines(entry.strategy)), *cells)
    console = Console()
    console.print(table)
    for entry in result.entries:
        if entry.error:
            console.print(Text(f"{entry.strategy} did not run: {entry.error}"))
    print_files(console, folder / "compare.html", folder / "compare.json")


def _cell(value: Estimate | None) -> str:
    """Format an estimate with its interval below, or `-` where there is none."""
    if value is None or value.value is None:
        return "-"
    return f"{value.value:.3g}" + ("" if value.low is None else f"\n[dim]{value.low:.2f}..{value.high:.2f}")
