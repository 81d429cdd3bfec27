"""The output of `letheon report`."""

from __future__ import annotations

from typing import Any

from letheon.printing.cells import or_json


@or_json()
def show_report(facts: dict[str, Any]) -> None:
    """Print the verdicts and the paths of the pages."""
    for name, outcome in facts["verdicts"].items():
        print(f"{name}: {outcome}")
    print(f"report: {facts['report']}")
    if facts["pdf"]:
        print(f"PDF: {facts['pdf']}")
