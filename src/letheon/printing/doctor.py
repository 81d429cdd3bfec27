"""The output of `letheon doctor`."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from letheon.printing.cells import print_json, print_notes


def show_doctor(facts: dict[str, Any], as_json: bool) -> None:
    """Print versions, speed, cached models and extras."""
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
    print_notes(console, facts["advice"])
