"""The output of `letheon ledger` and `letheon ledger derivative`."""

from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from letheon.audit.ledger.chain import Verification
from letheon.audit.ledger.entry import Entry
from letheon.printing.cells import CLOSE, new_table, or_json, printable

REQUESTS = ("request", "state, verdict", "reason", "received, due", "recheck", "returned", "entries")
CAME_BACK = "came back"


@or_json()
def show_requests(rows: list[dict[str, Any]]) -> None:
    """Print a table of the requests."""
    for row in rows:
        row["state, verdict"] = ", ".join(filter(None, (row["state"], row["verdict"])))
        dates = ", ".join(row[name][:10] for name in ("received", "due") if row[name])
        row["received, due"] = dates + (" OVERDUE" if row["overdue"] else "")
        row["entries"] = " ".join(map(str, row["entries"]))
    _table("Requests", REQUESTS, rows)


@or_json()
def show_derivatives(rows: list[dict[str, Any]]) -> None:
    """Print a table of the copies in use."""
    for row in rows:
        row["holds"] = "STILL HOLDS " + ", ".join(row["holds"]) if row["holds"] else "nothing that was deleted"
    _table("Derivatives in use", ("entry", "kind", "path", "sha256", "holds"), rows)


@or_json(lambda result: result.to_json())
def show_verification(result: Verification) -> None:
    """Print size and head of the chain, notes and faults, and whether the chain is whole."""
    print(f"{result.size} entries, head {result.head}")
    for note in result.notes:
        print(f"note: {note}")
    for fault in result.faults:
        typer.secho(f"entry {fault.sequence}: {fault.problem}" if fault.sequence else fault.problem, fg="red")
    print("whole" if result.whole else "NOT WHOLE")


@or_json()
def show_head(end: dict[str, Any]) -> None:
    """Print the end of the chain."""
    signed = f"signed by {end['signed_by']}" if end["signed_by"] else "UNSIGNED"
    print(f"{end['size']} entries, head {end['hash']}, {signed}")


@or_json(lambda entry: entry.to_json())
def show_recheck(entry: Entry) -> None:
    """Print the outcome per request, with its numbers then and now."""
    for one in entry.asked or []:
        numbers = ", ".join(f"{name} {_number(one.then[name])} -> {_number(value)}" for name, value in one.now.items())
        style = "red" if one.outcome == CAME_BACK else None
        typer.secho(f"{one.request}: {one.outcome} ({one.rows} of {one.of} rows; {numbers})", fg=style)
    for request, reason in (entry.not_asked or {}).items():
        print(f"{request}: not asked: {reason}")


def _table(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    table = new_table(title, *columns, **CLOSE)
    table.columns[-1].no_wrap = True
    for row in rows:
        table.add_row(*(Text(printable(row[column])) for column in columns))
    Console().print(table)


def _number(value: Any) -> str:
    return "-" if value.value is None else f"{value.value:.3g}"
