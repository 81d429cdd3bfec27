"""The output of `letheon bench`."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from letheon.measure.benchmark import Bench
from letheon.printing.cells import new_table, print_files, print_json, recipe_lines
from letheon.report.numbers import number


def show_bench(result: Bench, folder: Path, as_json: bool) -> None:
    """Print a table with a column per model and a row per score."""
    if as_json:
        print_json({**result.to_json(), "report": str(folder / "bench.html")})
        return
    measured = [(one, {score.name: score for score in one.scores.scores}) for one in result.models if one.scores]
    names = [Text(recipe_lines(one.name)) for one, _ in measured]
    table = new_table(f"{result.benchmark} {result.split}", "", *names)
    for name in result.columns:
        values = [scores[name].estimate.value if name in scores else None for _, scores in measured]
        table.add_row(name, *("" if value is None else number(value) for value in values))
    console = Console()
    console.print(table)
    for one in result.models:
        if one.scores is None:
            console.print(Text(f"{one.name} came to no result: {one.error}"))
    print_files(console, folder / "bench.html", folder / "bench.json")
