"""The output of `letheon compare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join

from rich.console import Console
from rich.text import Text

from letheon.compare.record import Comparison
from letheon.printing.cells import CLOSE, new_table, print_files, print_json, recipe_lines
from letheon.report.numbers import number


def show_comparison(comparison: Comparison, folder: Path, as_json: bool) -> None:
    """Print a table of the methods: verdict, learning rate, forgetting and retained utility."""
    if as_json:
        print_json({**comparison.to_json(), "report": str(folder / "compare.html")})
        return
    columns = ("forget extraction strength", "relearned", "4-bit recall", "retain utility", "damaged answers")
    title = f"{len(comparison.entries)} methods on request {comparison.request}"
    headings = [column.removeprefix("forget ") for column in columns]
    table = new_table(title, "method", "verdict", "rate", *headings, **CLOSE)
    for entry in comparison.entries:
        rate = f"{entry.chosen.learning_rate:.2g}" if entry.chosen and entry.chosen.learning_rate else ""
        name = recipe_lines(entry.method) + (" *" if entry.best else "")
        table.add_row(Text(name), entry.outcome, rate, *(_numbers(entry.numbers, columns) if entry.numbers else ()))
    for name, control in (("before", comparison.before), ("reference", comparison.reference)):
        if control is not None:
            table.add_row(f"[dim]{name}", "", "", *_numbers(control, columns))
    console = Console()
    console.print(table)
    for entry in comparison.entries:
        if entry.error:
            console.print(Text(f"{entry.method} failed: {entry.error}"))
    console.print("* no other method both forgets more (extraction strength) and keeps more (utility)")
    chosen = next((one.chosen for one in comparison.entries if one.chosen is not None), None)
    if chosen is not None:
        run = folder / chosen.folder
        whole = join(["letheon", "audit", comparison.model, f"{run / 'model'}", "--request", f"{run / 'request.json'}"])
        console.print(f"These are quick audits; the whole one of a run: {whole}", soft_wrap=True, markup=False)
    print_files(console, folder / "compare.html", folder / "compare.json")


def _numbers(found: Mapping[str, float | None], columns: Sequence[str]) -> list[str]:
    """Format the numbers of a model, or `-` where there is none."""
    return ["-" if found.get(column) is None else number(found[column]) for column in columns]
