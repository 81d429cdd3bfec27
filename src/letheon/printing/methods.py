"""The output of `letheon methods`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from letheon.core.registry import Method, methods, named_recipes
from letheon.papers.catalogue import inferred_of, method_badge
from letheon.printing.cells import print_json


def show_methods(listed: Sequence[Method], as_json: bool) -> None:
    """Print the parts of a recipe."""
    if as_json:
        print_json([_record(method) for method in listed])
        return
    table = Table(title="Parts of a recipe", title_justify="left", show_lines=False, box=None, padding=(0, 1))
    for heading in ("part", "name", "badge", "paper"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it does, what it needs")
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


def methods_markdown() -> str:
    """Return the parts of a recipe as the table of `docs/methods.md`."""
    lines = ["| part | name | what it does | badge | paper |", "| --- | --- | --- | --- | --- |"]
    for method in methods():
        paper = f"[{method.paper}](https://arxiv.org/abs/{method.paper})" if method.paper else ""
        inferred = inferred_of(method.name)
        does = f"{method.summary} Inferred: {inferred}." if inferred else method.summary
        lines.append(f"| {method.kind} | `{method.name}` | {does} | {method_badge(method.name)} | {paper} |")
    return "\n".join(lines)
