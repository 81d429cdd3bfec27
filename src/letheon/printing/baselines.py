"""The output of `letheon baselines`."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console

from letheon.forget.baselines import Behaviour
from letheon.printing.cells import new_table, or_json


@or_json(lambda found: [asdict(one) for one in found])
def show_baselines(found: list[Behaviour]) -> None:
    """Print what the model says as it is and behind every baseline."""
    table = new_table(
        "The weights stay as they are", "baseline", "forget ROUGE-L", "retain ROUGE-L", "forget probability",
        "retain probability",
    )  # fmt: skip
    for one in found:
        numbers = (one.forget_rouge, one.retain_rouge, one.forget_probability, one.retain_probability)
        table.add_row(one.name, *("-" if value is None else f"{value:.3f}" for value in numbers))
    console = Console()
    console.print(table)
    console.print("Whoever holds the weights still holds the knowledge: a deletion has to do better than these.")
