"""The output of `letheon page`."""

from __future__ import annotations

from typing import Any

from letheon.printing.cells import print_json


def show_address(plan: dict[str, Any], as_json: bool) -> None:
    """Print where the site is."""
    if as_json:
        print_json(plan)
    else:
        print(f"The papers are at {plan['address']} (your stars and notes: {plan['shelf']}). Ctrl+C closes the site.")


def show_built(built: dict[str, Any], as_json: bool) -> None:
    """Print what was built."""
    if as_json:
        print_json(built)
    else:
        print(f"{built['pages']} pages in {built['folder']}, the largest {built['largest_kb']} kB")
