"""What there is: the parts of a recipe, and what this machine has and can do."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from letheon.printing.cells import print_json


def show_methods(kind: str, as_json: bool) -> None:
    """The parts of a recipe."""
    from typing import get_args

    from letheon.core.errors import InputError, nearest
    from letheon.core.registry import Kind, methods, named_recipes
    from letheon.papers.catalogue import method_badge

    if kind and kind not in get_args(Kind):
        raise InputError(f"no kind {kind!r}", nearest(kind, list(get_args(Kind))))
    found = methods(kind or None)  # type: ignore[arg-type]  # checked above
    if as_json:
        print_json(
            [
                {
                    "name": method.name,
                    "kind": method.kind,
                    "summary": method.summary,
                    "needs": sorted(method.needs),
                    "wants": sorted(method.wants),
                    "paper": method.paper,
                    "badge": method_badge(method.name),
                }
                for method in found
            ]
        )
        return
    table = Table(title="Parts of a recipe", title_justify="left", show_lines=False, box=None, padding=(0, 1))
    for heading in ("part", "name", "badge", "paper"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what it does, what it needs")
    for method in found:
        words = {"needs": method.needs, "better with": method.wants}
        needs = "".join(f" [dim]{word} {', '.join(sorted(names))}" for word, names in words.items() if names)
        table.add_row(
            method.kind, f"[bold]{method.name}", method_badge(method.name), method.paper or "", method.summary + needs
        )
    console = Console()
    console.print(table)
    console.print(Text("\nOBJECTIVE[+UPDATE][@SCOPE][%SAMPLER], each NAME[=VALUE][:OPTION=VALUE,...]", style="dim"))
    names = [f"{name} = {record.recipes[name]}" for name, record in named_recipes().items()]
    console.print("[dim]named recipes: " + ", ".join(names))


def methods_markdown() -> str:
    """The parts of a recipe as the table that the README holds."""
    from letheon.core.registry import methods
    from letheon.papers.catalogue import method_badge

    lines = ["| part | name | what it does | badge | paper |", "| --- | --- | --- | --- | --- |"]
    for method in methods():
        paper = f"[{method.paper}](https://arxiv.org/abs/{method.paper})" if method.paper else ""
        lines.append(f"| {method.kind} | `{method.name}` | {method.summary} | {method_badge(method.name)} | {paper} |")
    return "\n".join(lines)


def show_doctor(facts: dict[str, Any], as_json: bool) -> None:
    """Versions, speed, models, extras."""
    if as_json:
        print_json(facts)
        return
    console = Console()
    table = Table(show_header=False, box=None)
    for name, value in facts["versions"].items():
        table.add_row(f"[dim]{name}", value)
    table.add_row("[dim]device", f"{facts['device']}, {facts['cores']} cores, {facts['threads']} threads")
    speeds = ", ".join(f"{name} {speed} GFLOP/s" for name, speed in facts["gflops"].items())
    table.add_row("[dim]matrix products", f"{speeds}: precision auto is {facts['precision']} here")
    table.add_row("[dim]letheon demo", f"about {facts['demo_minutes']} minutes")
    models = ", ".join(facts["cache"]["models"]) or "none"
    table.add_row("[dim]cached models", f"{models} in {facts['cache']['folder']} ({facts['disk_free_gb']} GB free)")
    for name, extra in facts["extras"].items():
        state = "[green]installed" if extra["installed"] else "[dim]not installed"
        table.add_row(f"[dim]extra {name}", f"{state}[/]: {extra['unlocks']}")
    console.print(table)
    for line in facts["advice"]:
        console.print(f"[yellow]note:[/] {escape(line)}")
