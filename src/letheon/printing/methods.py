"""The output of `letheon methods`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from letheon.core.registry import Method, methods, named_recipes
from letheon.jobs.methods import FamilyVerdict
from letheon.papers.catalogue import inferred_of, method_badge
from letheon.printing.cells import new_table, or_json


@or_json(lambda listed: [_record(method) for method in listed])
def show_methods(listed: Sequence[Method]) -> None:
    """Print the parts of a recipe."""
    headings = ("part", "name", "badge", "paper", "what it does, what it needs")
    table = new_table("Parts of a recipe", *headings, box=None)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for method in listed:
        words = {"needs": method.needs, "better with": method.wants}
        needs = "".join(f" [dim]{word} {', '.join(sorted(names))}" for word, names in words.items() if names)
        table.add_row(
            method.kind, f"[bold]{method.name}", method_badge(method.name), method.paper or "", method.summary + needs
        )
    console = Console()
    console.print(table)
    console.print(Text("\nOBJECTIVE[+UPDATE][@SCOPE][%SAMPLER], each NAME[=VALUE][:OPTION=VALUE,...]", style="dim"))
    recipes = [f"{name} = {record.recipes[name]}" for name, record in named_recipes().items()]
    console.print("[dim]named recipes: " + ", ".join(recipes))


def _record(method: Method) -> dict[str, object]:
    return {
        "name": method.name,
        "kind": method.kind,
        "summary": method.summary,
        "needs": sorted(method.needs),
        "wants": sorted(method.wants),
        "paper": method.paper,
        "badge": method_badge(method.name),
        "inferred": inferred_of(method.name),
    }


@or_json(lambda verdicts: [dataclasses.asdict(verdict) for verdict in verdicts])
def show_families(verdicts: Sequence[FamilyVerdict]) -> None:
    """Print which method works on which family of models."""
    refused = [verdict for verdict in verdicts if verdict.refused]
    title, headings = "Refused before loading; everything else works", ("method", "family", "why, and what would work")
    table = new_table(title, *headings, box=None)
    for verdict in refused:
        table.add_row(verdict.method, verdict.family, Text(verdict.refused))
    Console().print(table)


def families_markdown(verdicts: Sequence[FamilyVerdict]) -> str:
    """Return the tables of `docs/families.md`: every method and family, and the reasons of refusals."""
    families = list(dict.fromkeys(verdict.family for verdict in verdicts))
    reasons: dict[str, int] = {}
    rows: dict[str, list[str]] = {}
    for verdict in verdicts:
        number = reasons.setdefault(verdict.refused, len(reasons) + 1) if verdict.refused else 0
        rows.setdefault(verdict.method, []).append(f"refused [{number}](#refusals)" if number else "works")
    lines = ["| method | " + " | ".join(families) + " |", "| --- " * (len(families) + 1) + "|"]
    lines += [f"| {method} | {' | '.join(cells)} |" for method, cells in rows.items()]
    lines += ["", "### Refusals", ""]
    lines += [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join(lines)


def methods_markdown() -> str:
    """Return the parts of a recipe as the table of `docs/methods.md`."""
    lines = ["| part | name | what it does | badge | paper |", "| --- | --- | --- | --- | --- |"]
    for method in methods():
        paper = f"[{method.paper}](https://arxiv.org/abs/{method.paper})" if method.paper else ""
        inferred = inferred_of(method.name)
        does = f"{method.summary} Inferred: {inferred}." if inferred else method.summary
        lines.append(f"| {method.kind} | `{method.name}` | {does} | {method_badge(method.name)} | {paper} |")
    return "\n".join(lines)
