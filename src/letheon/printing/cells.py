"""Shared parts of the output: JSON, a plan, the cell of a table, a line of foreign text."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def add_columns(table: Table, *headings: str) -> None:
    """Add columns that break between words only; the first, which holds names, may fold anywhere."""
    for number, heading in enumerate(headings):
        longest = max((len(word) for word in heading.split()), default=0)
        table.add_column(Text(heading), overflow="fold", min_width=None if not number else longest)


def show_plan(plan: dict[str, Any], as_json: bool) -> None:
    """Print what would be done."""
    if as_json:
        print_json(plan)
        return
    table = Table(show_header=False, box=None)
    for name, value in plan.items():
        table.add_row(f"[dim]{name}", Text(printable(value if isinstance(value, dict) else str(value))))
    console = Console()
    console.print("What would be done (nothing was written)", style="italic")
    console.print(table)


def show_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print named facts, a line each; a list has a line per item."""
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        for item in value if isinstance(value, list) else [value]:
            print(f"{name}: {printable(item)}")


def cell(value: Any) -> str:
    """Format an estimate with its interval, or `-` where there is none."""
    if value is None or value.value is None:
        return "-"
    number = f"{value.value:.3g}"
    return number if value.low is None else f"{number} [dim]({value.low:.2g}..{value.high:.2g})"


def printable(value: Any) -> str:
    """Format a value on one line without control characters, which a text of others may hold."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else " " for sign in text)


def one_line(text: str, most: int = 160) -> str:
    """Format a text of a model or user for a terminal: one line, no control characters, at most `most` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
