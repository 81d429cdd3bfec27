"""What every page is made of: JSON, a plan, the cell of a table, a line of foreign text."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def show_plan(plan: dict[str, Any], as_json: bool) -> None:
    """What would be done."""
    if as_json:
        print_json(plan)
        return
    table = Table(title="What would be done (nothing was written)", show_header=False, box=None, title_justify="left")
    for name, value in plan.items():
        table.add_row(
            f"[dim]{name}", Text(json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value))
        )
    Console().print(table)


def cell(value: Any) -> str:
    if value is None or value.value is None:
        return "-"
    number = f"{value.value:.3g}"
    return number if value.low is None else f"{number} [dim]({value.low:.2g}..{value.high:.2g})"


def one_line(text: str, most: int = 160) -> str:
    """A text of a model or user made fit for a terminal: one line, no control characters, not too long."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    line = " ".join(line.split())
    return line if len(line) <= most else line[: most - 1] + "…"
