"""The output of `letheon papers run` with several papers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from letheon.core.tasks import Ended
from letheon.printing.cells import new_table, print_json, printable


def show_papers(ended: Mapping[str, Ended], out: Path, as_json: bool) -> None:
    """Print the verdict of each paper, or the problem that ended its measurement."""
    if as_json:
        print_json({key: one.value if not one.problem else {"error": one.problem} for key, one in ended.items()})
        return
    table = new_table("Claims", "paper", "verdict", "seconds")
    for key, one in ended.items():
        if one.problem:
            table.add_row(key, f"[red]did not run:[/] {escape(printable(one.problem))}", "")
        else:
            table.add_row(key, one.value["verdict"], f"{one.value['seconds']:.0f}")
    console = Console()
    console.print(table)
    console.print(f"saved in {out}", style="dim", markup=False)
