"""The output of `letheon report`."""

from __future__ import annotations

from typing import Any

from letheon.printing.cells import print_json


def show_report(facts: dict[str, Any], as_json: bool) -> None:
    """Print the verdicts and the paths of the pages."""
    if as_json:
        print_json(facts)
        return
    for name, outcome in facts["verdicts"].items():
        print(f"{name}: {outcome}")
    print(f"report: {facts['report']}")
    if facts["pdf"]:
        print(f"PDF: {facts['pdf']}")
