"""The output of `letheon page`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from letheon.page.importing.importer import Imported, State
from letheon.printing.cells import or_json
from letheon.report.safe_text import visible


@or_json()
def show_address(plan: dict[str, Any]) -> None:
    """Print where the site is."""
    print(f"The papers are at {plan['address']} (your stars and notes: {plan['shelf']}). Ctrl+C closes the site.")


@or_json()
def show_built(built: dict[str, Any]) -> None:
    """Print what was built."""
    print(f"{built['pages']} pages in {built['folder']}, the largest {built['largest_kb']} kB")


@or_json(lambda done: [asdict(one) for one in done])
def show_imported(done: list[Imported]) -> None:
    """Print per file what became of its entries, the commands that start code, and the broken blocks."""
    for one in done:
        states: tuple[State, ...] = ("known", "new", "changed", "unchanged")
        counts = ", ".join(f"{one.count(state)} {state}" for state in states if one.count(state))
        year = f"; days without a year are of {one.year}" if one.year else ""
        print(f"{visible(one.source)}: {counts or 'no entries'}, {len(one.broken)} broken{year}")
        for line in one.lines:
            if line.state in ("new", "changed"):
                print(f"  line {line.line}: {visible(line.title)}\n    no code yet: {line.skeleton}")
        for broken in one.broken:
            first = " ".join(visible(broken.text).split())[:100]
            print(f"  line {broken.line} could not be read ({visible(broken.problem)}): {first}")


@or_json()
def show_digest(sent: dict[str, Any]) -> None:
    """Print what was sent, and to whom."""
    print(sent["subject"])
    if sent["file"]:
        print(f"written to {sent['file']}")
    elif sent["sent"]:
        print(f"sent to {', '.join(sent['sent'])}")
    else:
        print("sent to nobody: no address is subscribed")
    for address in sent["unsubscribed"]:
        print(f"not sent to {address}, which unsubscribed")
