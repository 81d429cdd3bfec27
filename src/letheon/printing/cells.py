"""Shared parts of the output: JSON, a plan, the cell of a table, a line of foreign text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape, render
from rich.table import Column, Table
from rich.text import Text

Made = TypeVar("Made")

# A narrow table breaks no word of up to LONGEST characters; of up to LONGEST_NAME in the first column, which has names.
LONGEST, LONGEST_NAME = 20, 12
# Options of a table of many columns: ten fit into 80 characters.
CLOSE: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": 0}


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


class WholeTable(Table):
    """A table that breaks neither headings nor figures; columns without room go on below, behind the first."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table as it is if it fits, else as many columns beside each other as there is room for."""
        _, right, _, left = self.padding
        framed = self.box is not None
        between = framed + (max(left, right) if self.collapse_padding else left + right)
        room = options.max_width - framed * (1 if self.show_edge else -1)
        whole = [_widest((column.header, *column.cells)) for column in self.columns]
        if sum(whole) + between * len(whole) <= room:
            yield from super().__rich_console__(console, options)
            return
        least = [_narrowest(column, LONGEST if at else LONGEST_NAME) for at, column in enumerate(self.columns)]
        kept = [full if column.no_wrap else few for column, few, full in zip(self.columns, least, whole, strict=True)]
        if sum(kept) + between * len(kept) <= room:  # two lines are better than two tables
            least = kept
        part, later = copy(self), list(range(1, len(least)))
        while later:
            shown = [0, later.pop(0)]
            while later and sum(least[at] + between for at in (*shown, later[0])) <= room:
                shown.append(later.pop(0))
            columns = [replace(self.columns[at], _index=place, no_wrap=False) for place, at in enumerate(shown)]
            spare = room - sum(least[at] + between for at in shown)
            for column, width in zip(columns, _shared(columns, [least[at] for at in shown], spare), strict=True):
                column.width = width
            part.columns = columns
            yield from super(WholeTable, part).__rich_console__(console, options)
            part.title = None


def _shared(columns: Sequence[Column], widths: Sequence[int], spare: int) -> list[int]:
    """Return the widths after what is spare went to the columns whose cells would have the most lines."""
    whole, widths = [_widest(column.cells) for column in columns], [max(width, 1) for width in widths]
    for _ in range(spare):
        most = max(range(len(whole)), key=lambda at: whole[at] / widths[at])
        widths[most] += whole[most] > widths[most]
    return widths


def _narrowest(column: Column, longest: int) -> int:
    """Return the least width at which a column breaks no word of its heading, and none of its cells up to `longest`."""
    words = [cell_len(word) for one in column.cells for word in _plain(one).split()]
    return max(min(max(words, default=0), longest), *map(cell_len, _plain(column.header).split()), 0)


def _widest(contents: Iterable[Any]) -> int:
    """Return the width of texts without breaks."""
    return max((cell_len(line) for one in contents for line in _plain(one).split("\n")), default=0)


def _plain(content: Any) -> str:
    return render(content).plain if isinstance(content, str) else str(content)


def new_table(title: str | Text, *headings: str | Text, **options: Any) -> Table:
    """Make a table with its title at the left, of which a string is no markup; `options` are those of rich."""
    shown = escape(title) if isinstance(title, str) else title
    table = WholeTable(title=shown, **{"title_justify": "left", **options})
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def recipe_lines(method: str) -> str:
    """Break a long recipe into lines: a part or an option each."""
    return re.sub(r"(?=[+@%][a-z])|(?<=[:,])", "\n", method) if len(method) > LONGEST else method


def new_facts() -> Table:
    """Make a table of names and values without headings."""
    table = new_table("", "", "", show_header=False, box=None)
    table.columns[0].no_wrap = True
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
    table = new_facts()
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
