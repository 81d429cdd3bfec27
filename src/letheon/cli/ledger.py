"""The record of deletion requests: append-only, hash-chained, without personal data.

letheon forget MODEL --request request.json --ledger ledger/; letheon ledger list --ledger ledger/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.derivatives import derivative
from letheon.cli.shared import NOT_A_PASS, Access, Json, Place, Shown, Where, command, perform
from letheon.core.errors import LetheonError
from letheon.jobs.options import LedgerAccess
from letheon.printing.cells import show_facts

ledger = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
ledger.add_typer(derivative, name="derivative")


@ledger.command("list")
def list_requests(ledger: Place = None, as_json: Json = False) -> None:
    """List every request: its state, when it is due, when its rows should be asked again.

    letheon ledger list --ledger ledger/
    """
    from letheon.jobs.ledger import list_requests
    from letheon.printing.ledger import show_requests

    show_requests(list_requests(LedgerAccess(ledger)), as_json)


@ledger.command()
def show(
    sequence: Annotated[int, typer.Argument(help="Number of the entry.")], ledger: Place = None, as_json: Json = False
) -> None:
    """Show one whole entry.

    letheon ledger show 3 --ledger ledger/
    """
    from letheon.jobs.ledger import read_one

    show_facts(read_one(LedgerAccess(ledger), sequence), as_json)


@ledger.command()
def verify(
    exported: Annotated[
        Path | None, typer.Argument(help="A file of letheon ledger export; without it the ledger is verified.")
    ] = None,
    head: Annotated[
        str,
        typer.Option(help="A head stored elsewhere (its hash, or a file of letheon ledger head); it shows a cut end."),
    ] = "",
    public_key: Annotated[
        list[Path] | None, typer.Option(help="Public key of the signatures; may be given several times.")
    ] = None,
    audit: Annotated[Path | None, typer.Option(help="An audit.json: is it the one that an entry names?")] = None,
    ledger: Place = None,
    as_json: Json = False,
) -> None:
    """Find every changed, removed, swapped or inserted entry; exit code 1 where there is one.

    letheon ledger verify ledger.jsonl --head head.json --public-key key.pub
    """
    from letheon.jobs.ledger import verify
    from letheon.printing.ledger import show_verification

    result = verify(LedgerAccess(ledger), exported, head, public_key or [], audit)
    show_verification(result, as_json)
    if not result.whole:
        raise typer.Exit(LetheonError.exit_code)


@command(ledger)
def head(
    *,
    access: Access,
    out: Annotated[Path | None, typer.Option(help="Write the head to this file too.")] = None,
    as_json: Json = False,
) -> None:
    """Print the end of the chain, to be stored elsewhere: `verify` then sees entries cut off or written anew.

    letheon ledger head --key key.pem --out head.json
    """
    from letheon.jobs.ledger import read_head
    from letheon.printing.ledger import show_head

    show_head(read_head(access, out), as_json)


@command(ledger)
def export(
    out: Annotated[Path, typer.Argument(help="File to write.")],
    *,
    statement: Annotated[
        bool, typer.Option("--statement", help="An in-toto statement about a request's model instead of all entries.")
    ] = False,
    request: Annotated[str, typer.Option(help="The request, with --statement.")] = "",
    access: Access,
    shown: Shown,
) -> None:
    """Write all entries as JSON lines that `verify` checks offline; or a provenance statement.

    letheon ledger export ledger.jsonl; letheon ledger export model.intoto.json --statement --request case-7
    """
    from letheon.jobs.ledger import ExportJob

    perform(ExportJob(out, statement, request, access), shown, show_facts)


@command(ledger)
def close(request: Annotated[str, typer.Argument(help="Id of the request.")], access: Access, shown: Shown) -> None:
    """Close a request: its key is destroyed, so that the ledger's commitments to its rows can no longer be opened.

    The request can then no longer be re-checked by rows. letheon ledger close case-7
    """
    from letheon.jobs.ledger import CloseJob

    perform(CloseJob(request, access), shown, show_facts)


@command(ledger)
def recheck(
    *,
    model: Annotated[str, typer.Option(help="The newest model.")],
    requests: Annotated[Path, typer.Option(help="A request.json, or a folder that is searched for request*.json.")],
    sample: Annotated[
        int, typer.Option(min=0, help="Ask at most this many requests, drawn by the seed; 0 asks all.")
    ] = 0,
    access: Access,
    where: Where,
    shown: Shown,
) -> None:
    """Ask the newest model for the rows of earlier requests; exit code 3 where a row came back.

    letheon ledger recheck --model newest/ --requests runs/ --sample 20
    """
    from letheon.jobs.ledger import RecheckJob
    from letheon.printing.ledger import CAME_BACK, show_recheck

    job = RecheckJob(model, requests, sample, access, where)
    entry = perform(job, shown, show_recheck)
    if entry is not None and any(one.outcome == CAME_BACK for one in entry.asked or []):
        raise typer.Exit(NOT_A_PASS)


@command(ledger)
def keygen(
    path: Annotated[Path, typer.Argument(help="File for the private key; the public one is written beside it.")],
    shown: Shown,
) -> None:
    """Make an Ed25519 key pair: PATH (mode 0600) and PATH.pub.

    letheon ledger keygen ~/keys/ledger.pem
    """
    from letheon.jobs.ledger import KeygenJob

    perform(KeygenJob(path), shown, show_facts)
