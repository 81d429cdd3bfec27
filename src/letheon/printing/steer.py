"""The output of `letheon steer`: a curve's table, and answers."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from letheon.core.atomic import plain
from letheon.printing.cells import cell, one_line, print_json
from letheon.steer.curve import Curve
from letheon.steer.curve_page import COLUMNS


def show_curve(curve: Curve, as_json: bool) -> None:
    """Print the table of a curve, the recommended strength, and a warning where the model collapses."""
    if as_json:
        print_json(plain(curve))
        return
    table = Table(title=f"Steering {one_line(curve.model)}", title_justify="left", box=None, padding=(0, 2))
    for name in COLUMNS:
        table.add_column(name)
    for point in curve.points:
        numbers = (point.perplexity, point.kl, point.refusals, point.repetition)
        table.add_row(f"{point.strength:g}", cell(point.target), *(f"{value:.3g}" for value in numbers))
    console = Console()
    console.print(table)
    best = "none" if curve.recommended is None else f"{curve.recommended:g}"
    console.print(Text(f"recommended strength: {best} ({curve.reason})"))
    if curve.collapsed:
        console.print(Text(f"warning: the model collapses at {', '.join(f'{s:g}' for s in curve.collapsed)}", "yellow"))


def show_answers(answers: Mapping[str, str], as_json: bool) -> None:
    """Print the answers to one question."""
    if as_json:
        print_json(dict(answers))
        return
    for name, text in answers.items():
        print(f"{name}: {one_line(text, 2000)}")
