"""`letheon ledger`: the record of deletion requests: list, show, verify, export, close, re-check, keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from letheon.cli.app import NOT_A_PASS, Device, DryRun, Json, Seed, app, print_json
from letheon.core.errors import InputError, LetheonError

if TYPE_CHECKING:
    from letheon.audit.ledger.store import Ledger

ledger_app = typer.Typer(
    help="The record of deletion requests: append-only, hash-chained, without personal data.\n\n"
    "letheon forget MODEL --request request.json --ledger ledger/; letheon ledger list --ledger ledger/",
    no_args_is_help=True,
)
app.add_typer(ledger_app, name="ledger")

Place = Annotated[
    Path | None,
    typer.Option("--ledger", help="The ledger's folder; default $LETHEON_LEDGER, else one in the user's data folder."),
]
Key = Annotated[
    Path | None, typer.Option(help="Private key that signs; default $LETHEON_LEDGER_KEY, else entries are unsigned.")
]
Out = Annotated[Path | None, typer.Option(help="Write to this file instead of printing.")]
RequestId = Annotated[str, typer.Argument(help="Id of the request.")]


@contextmanager
def opened(place: Path | None, key: Path | None = None) -> Iterator[Ledger]:
    """The ledger that was named, or the user's own."""
    from letheon.audit.ledger.store import Ledger, default_folder

    ledger = Ledger.open(place or default_folder(), key=key)
    try:
        yield ledger
    finally:
        ledger.close()


@ledger_app.command("list")
def list_requests(ledger: Place = None, as_json: Json = False) -> None:
    """Every request: where it stands, when it is due, when its rows should be asked again.

    letheon ledger list --ledger ledger/
    """
    from letheon.audit.ledger.cases import cases

    now = datetime.now(UTC)
    with opened(ledger) as found:
        rows = [case.to_json(now) for case in cases(found.entries()).values()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["received"] = row["received"][:10]
        row["due"] = row["due"][:10] + (" OVERDUE" if row["overdue"] else "")
        row["entries"] = " ".join(map(str, row["entries"]))
    table_of(
        "Requests", ("request", "state", "reason", "received", "due", "verdict", "recheck", "returned", "entries"), rows
    )


@ledger_app.command()
def show(
    sequence: Annotated[int, typer.Argument(help="Number of the entry.")], ledger: Place = None, as_json: Json = False
) -> None:
    """One entry, whole.

    letheon ledger show 3 --ledger ledger/
    """
    with opened(ledger) as found:
        from letheon.audit.ledger.store import read_entry

        line = found.line(sequence)
        shown = {**read_entry(line, str(found.folder)).to_json(), "hash": line.hash, "signature": line.signature}
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        typer.echo(f"{name}: {_fit(value)}")


@ledger_app.command()
def verify(
    exported: Annotated[
        Path | None, typer.Argument(help="A file of letheon ledger export; without it the ledger is verified.")
    ] = None,
    head: Annotated[
        str, typer.Option(help="A head kept elsewhere (its hash, or a file of letheon ledger head): shows a cut end.")
    ] = "",
    public_key: Annotated[
        list[Path] | None, typer.Option(help="Public key of the signatures; may be given several times.")
    ] = None,
    audit: Annotated[Path | None, typer.Option(help="An audit.json: is it the one that an entry speaks of?")] = None,
    ledger: Place = None,
    as_json: Json = False,
) -> None:
    """Find every changed, removed, swapped or inserted entry; exit code 1 where there is one.

    letheon ledger verify ledger.jsonl --head head.json --public-key key.pub
    """
    from letheon.audit.ledger.chain import check
    from letheon.audit.ledger.exchange import find_audit, read_export, read_head
    from letheon.audit.ledger.signing import read_verifier

    keys = {key.id: key for key in map(read_verifier, public_key or [])}
    kept = read_head(head) if head else None
    if exported is not None:
        lines = read_export(exported)
        result = check(lines, kept, keys)
    else:
        with opened(ledger) as found:
            result = found.verify(kept, keys)
            lines = found.lines() if result.whole else []
    if audit is not None and result.whole:
        find_audit(lines, audit, result)
    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(f"{result.size} entries, head {result.head}")
        for note in result.notes:
            typer.echo(f"note: {note}")
        for fault in result.faults:
            typer.secho(f"entry {fault.sequence}: {fault.problem}" if fault.sequence else fault.problem, fg="red")
        typer.echo("whole" if result.whole else "NOT WHOLE")
    if not result.whole:
        raise typer.Exit(LetheonError.exit_code)


@ledger_app.command()
def head(ledger: Place = None, key: Key = None, out: Out = None, as_json: Json = False) -> None:
    """The end of the chain, to be kept elsewhere: with it `verify` sees when entries were cut off or written anew.

    letheon ledger head --key key.pem --out head.json
    """
    from dataclasses import asdict

    from letheon.core.atomic import write_json

    with opened(ledger, key) as found:
        end = asdict(found.head())
    if out is not None:
        write_json(out, end)
    if as_json:
        print_json(end)
        return
    signed = f"signed by {end['signed_by']}" if end["signed_by"] else "UNSIGNED"
    typer.echo(f"{end['size']} entries, head {end['hash']}, {signed}")


@ledger_app.command()
def export(
    out: Annotated[Path, typer.Argument(help="File to write.")],
    statement: Annotated[
        bool, typer.Option("--statement", help="An in-toto statement about a request's model instead of all entries.")
    ] = False,
    request: Annotated[str, typer.Option(help="The request, with --statement.")] = "",
    ledger: Place = None,
    key: Key = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Write all entries as JSON lines that `verify` checks offline; or a provenance statement.

    letheon ledger export ledger.jsonl; letheon ledger export model.intoto.json --statement --request case-7
    """
    from letheon.audit.ledger import exchange
    from letheon.core.atomic import write_json

    if statement != bool(request):
        raise InputError("--statement and --request go together", "letheon ledger export FILE --statement --request ID")
    with opened(ledger, key) as found:
        if statement:
            made = exchange.statement(found, request)
            if not dry_run:
                write_json(out, made)
            say({"out": str(out), "request": request, "signed": "signatures" in made}, as_json, dry_run)
        else:
            size = len(found.lines()) if dry_run else exchange.export(found, out)
            say({"out": str(out), "entries": size}, as_json, dry_run)


@ledger_app.command()
def close(
    request: RequestId, ledger: Place = None, key: Key = None, as_json: Json = False, dry_run: DryRun = False
) -> None:
    """Close a request: its key is destroyed, so that what the ledger holds of its rows says nothing any more.

    It can then no longer be re-checked by rows. letheon ledger close case-7
    """
    from letheon.audit.ledger import recording

    with opened(ledger, key) as found:
        if dry_run:
            keys = [made.key for made in recording.find_case(found, request).commitments]
            say({"request": request, "keys to destroy": keys}, as_json, True)
            return
        entry = recording.close(found, request)
    say({"request": request, "entry": entry.sequence, "key_destroyed": entry.key_destroyed}, as_json, False)


@ledger_app.command()
def recheck(
    model: Annotated[str, typer.Option(help="The newest model.")],
    requests: Annotated[Path, typer.Option(help="A request.json, or a folder that is searched for request*.json.")],
    sample: Annotated[
        int, typer.Option(min=0, help="Ask at most so many requests, drawn by the seed; 0 asks all.")
    ] = 0,
    ledger: Place = None,
    key: Key = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Ask the newest model for what earlier requests had removed; exit code 3 where something came back.

    letheon ledger recheck --model newest/ --requests runs/ --sample 20
    """
    from letheon.audit.ledger.recheck import plan
    from letheon.audit.ledger.recheck import recheck as ask_again
    from letheon.core.model.models import check_loadable

    with opened(ledger, key) as found:
        chosen = plan(found, requests, sample, seed)
        check_loadable(model)
        if dry_run:
            rows = {request: len(rows) for request, rows in chosen.rows.items()}
            say({"model": model, "rows": rows, "not asked": chosen.not_asked}, as_json, True)
            return
        entry = ask_again(found, model, chosen, device)
    if as_json:
        print_json(entry.to_json())
    else:
        for one in entry.asked or []:
            numbers = ", ".join(
                f"{name} {_number(one.then[name])} -> {_number(value)}" for name, value in one.now.items()
            )
            style = "red" if one.outcome == "came back" else None
            typer.secho(f"{one.request}: {one.outcome} ({one.rows} of {one.of} rows; {numbers})", fg=style)
        for request, reason in (entry.not_asked or {}).items():
            typer.echo(f"{request}: not asked: {reason}")
    if any(one.outcome == "came back" for one in entry.asked or []):
        raise typer.Exit(NOT_A_PASS)


@ledger_app.command()
def keygen(
    path: Annotated[Path, typer.Argument(help="File for the private key; the public one is written beside it.")],
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Make an Ed25519 key pair: PATH (mode 0600) and PATH.pub.

    letheon ledger keygen ~/keys/ledger.pem
    """
    from letheon.audit.ledger import signing

    made = {"private": str(path), "public": f"{path}.pub"}
    say(made if dry_run else {**made, "id": signing.keygen(path)}, as_json, dry_run)


def say(facts: dict[str, Any], as_json: bool, dry_run: bool) -> None:
    """What was done, or would be."""
    if as_json:
        print_json(facts)
        return
    if dry_run:
        typer.echo("What would be done (nothing was written)")
    for name, value in facts.items():
        typer.echo(f"{name}: {_fit(value)}")


def table_of(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """Some fields of some rows as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_fit(row[column])) for column in columns))
    Console().print(table)


def _fit(value: Any) -> str:
    """A value on one line, without control characters: what others wrote may end up here."""
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _number(value: Any) -> str:
    return "-" if value.value is None else f"{value.value:.3g}"
