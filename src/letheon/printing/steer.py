"""The output of `letheon steer`: what was fitted, a curve's table, and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from letheon.core.atomic import plain
from letheon.printing.cells import CLOSE, new_table, one_line, or_json, show_facts
from letheon.steer.curve import Curve
from letheon.steer.curve_page import COLUMNS, curve_rows

# Longer lists of facts are cut on the terminal; the file and --json have every item.
MOST_FACTS = 5


@or_json()
def show_steering(made: Mapping[str, Any]) -> None:
    """Print what was fitted: a line per kind of site with its layers, and one per fact of the method."""
    told = {name: value for name, value in made.items() if name not in ("sites", "facts")}
    told["sites"] = layers_by_kind(made["sites"])
    for name, value in made["facts"].items():
        items = value if isinstance(value, list) else [value]
        left = [f"... and {len(items) - MOST_FACTS} more"] if len(items) > MOST_FACTS else []
        told[name] = [*items[:MOST_FACTS], *left]
    show_facts(told, False)


def layers_by_kind(sites: Sequence[str]) -> list[str]:
    """Join sites of one kind, consecutive layers as a range: `mlp of layers 0-2, 7`."""
    by_kind: dict[str, list[int]] = {}
    for site in sites:
        number, _, kind = site.partition(".")
        by_kind.setdefault(kind, []).append(int(number))
    joined = []
    for kind, layers in by_kind.items():
        runs: list[list[int]] = []
        for layer in sorted(layers):
            if runs and layer == runs[-1][-1] + 1:
                runs[-1].append(layer)
            else:
                runs.append([layer])
        words = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
        joined.append(f"{kind} of layer{'s' if len(layers) > 1 else ''} {words}")
    return joined


@or_json(lambda curve: plain(curve))
def show_curve(curve: Curve) -> None:
    """Print the table of a curve, the recommended strength, and a warning where the model collapses."""
    table = new_table(Text(f"Steering {one_line(curve.model)}"), *COLUMNS, **CLOSE)
    table.columns[1].no_wrap = True  # a rate and its interval
    for row in curve_rows(curve):
        table.add_row(*map(Text, row))
    console = Console()
    console.print(table)
    best = "none" if curve.recommended is None else f"{curve.recommended:g}"
    console.print(Text(f"recommended strength: {best} ({curve.reason})"))
    if curve.collapsed:
        console.print(Text(f"warning: the model collapses at {', '.join(f'{s:g}' for s in curve.collapsed)}", "yellow"))


@or_json()
def show_answers(answers: Mapping[str, str]) -> None:
    """Print the answers to one question."""
    for name, text in answers.items():
        print(f"{name}: {one_line(text, 2000)}")
