"""Shared parts of the output: JSON, a plan, the cell of a table, a line of foreign text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

Made = TypeVar("Made")
# Options of a table of many columns: ten fit into 80 characters. Width of the longest word in a column of estimates.
CLOSE: dict[str, Any] = {"box": None, "pad_edge": False, "collapse_padding": True}
INTERVAL = len("(0.25..0.75)")


def print_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def or_json(
    json_of: Callable[[Any], Any] = lambda value: value,
) -> Callable[[Callable[[Made], None]], Callable[[Made, bool], None]]:
    """Let a function that prints a result for a person print it as JSON instead, if it is called with True after it.

    Args:
        json_of: makes what JSON can express of the result.
    """

    def made(show: Callable[[Made], None]) -> Callable[[Made, bool], None]:
        @wraps(show)
        def either(result: Made, as_json: bool) -> None:
            print_json(json_of(result)) if as_json else show(result)

        return either

    return made


def new_table(title: str | Text, *headings: str | Text, numbers: bool = False, **options: Any) -> Table:
    """Make a table with its title at the left; `options` are those of rich.

    Columns break between words of their headings only; the first, which holds names, may fold anywhere.

    Args:
        numbers: whether all columns but the first hold estimates, which stand at the right and do not fold.
    """
    table = Table(title=escape(title) if isinstance(title, str) else title, **{"title_justify": "left", **options})
    longest = [max((len(word) for word in str(heading).split()), default=0) for heading in headings[1:]]
    least = [0, *(max(length, INTERVAL if numbers else 0) for length in longest)]
    narrow = sum(least) + 3 * len(least) > Console().width  # what has to fold folds, so that no column is cut
    for place, heading in enumerate(headings):
        justify: Literal["left", "right"] = "right" if numbers and place else "left"
        table.add_column(heading, overflow="fold", min_width=None if narrow else least[place], justify=justify)
    return table


def print_notes(console: Console, notes: Sequence[str]) -> None:
    """Print what a reader should know, a line each."""
    for note in notes:
        console.print(f"[yellow]note:[/] {escape(note)}")


def print_files(console: Console, report: Path, numbers: Path) -> None:
    """Name the page and the file of its numbers."""
    console.print(f"report: {report}   numbers: {numbers}", soft_wrap=True, markup=False)


@or_json()
def show_plan(plan: dict[str, Any]) -> None:
    """Print what would be done."""
    table = Table(show_header=False, box=None)
    for name, value in plan.items():
        table.add_row(f"[dim]{name}", Text(printable(value if isinstance(value, dict) else str(value))))
    console = Console()
    console.print("What would be done (nothing was written)", style="italic")
    console.print(table)


@or_json()
def show_facts(facts: dict[str, Any]) -> None:
    """Print named facts, a line each; a list has a line per item."""
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
