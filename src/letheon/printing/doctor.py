"""The output of `letheon doctor`."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from letheon.printing.cells import new_facts, new_table, or_json, print_notes


@or_json()
def show_doctor(facts: dict[str, Any]) -> None:
    """Print versions, speed, cached models and extras."""
    console = Console()
    table = new_facts()
    for name, value in facts["versions"].items():
        table.add_row(f"[dim]{name}", value)
    threads = f"{facts['threads']} threads ({facts['threads_tiny']} for a tiny model), waiting: {facts['wait_policy']}"
    table.add_row("[dim]device", f"{facts['device']}, {facts['cores']} cores, {threads}")
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


@or_json()
def show_needs(facts: dict[str, Any]) -> None:
    """Print what each way to forget needs, and a command that fits."""
    count, kind, memory = facts["devices"], facts["device"], facts["device_gib"]
    console, together = Console(), count > 1
    title = f"{facts['model']}: {facts['weights'] / 1e9:.2f} billion weights; {count} x {kind} with {memory} GiB"
    headings = ("options of letheon forget", "bytes per weight", "GiB", "activations", "offloaded", "fits")
    table = new_table(title, *headings, *((f"fits {count} devices",) if together else ()))
    for way in facts["ways"]:
        fits = ["yes" if way[name] else "no" for name in ("fits", *(("fits_sharded",) if together else ()))]
        numbers = (way["bytes_per_weight"], way["gib"], way["activations_gib"], way["offloaded_gib"])
        table.add_row(way["options"] or "(none)", *map(str, numbers), *fits)
    console.print(table)
    print_notes(console, [f"estimate: {facts['estimate']}"])
    console.print(facts["command"], soft_wrap=True, markup=False)
