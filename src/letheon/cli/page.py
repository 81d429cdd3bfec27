"""Open the page of papers: a site on this machine that lists, searches and runs them, or the same as static files.

letheon page; letheon page --build site/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.options import expanded
from letheon.cli.shared import Shown, perform
from letheon.core.errors import InputError
from letheon.printing.cells import show_plan

page = typer.Typer(add_completion=False)

ShelfFile = Annotated[
    Path | None,
    typer.Option("--shelf", help="The file of your stars, notes and imported papers; default in your data folder."),
]


@page.callback(invoke_without_command=True, help=__doc__)
@expanded
def open_page(
    context: typer.Context,
    *,
    folders: Annotated[
        list[Path] | None, typer.Option("--folder", help="A folder whose runs are shown; may be repeated.")
    ] = None,
    build: Annotated[Path | None, typer.Option(help="Write the pages as static files into this folder.")] = None,
    address: Annotated[
        str,
        typer.Option(help="With --build: where the pages will be (https://example.org/papers), for feeds."),
    ] = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port on this machine.")] = 8457,
    embedder: Annotated[str, typer.Option(help="minilm, or words to search by words alone, or a folder.")] = "minilm",
    shelf: ShelfFile = None,
    shown: Shown,
) -> None:
    """Serve or build the pages where no subcommand is given."""
    if context.invoked_subcommand is not None:
        return
    from letheon.jobs.page import BuildJob, ServeJob, shelf_file
    from letheon.printing.page import show_address, show_built

    if build is not None:
        perform(BuildJob(shelf or shelf_file(), build, embedder, address), shown, show_built)
        return
    if address:
        raise InputError("--address is for static files", "add --build FOLDER, or leave it out")
    job = ServeJob(shelf or shelf_file(), folders or [], port, embedder)
    plan = job.plan()
    if shown.dry_run:
        show_plan(plan, shown.as_json)
    else:
        show_address(plan, shown.as_json)
        job.work()


@page.command("import")
@expanded
def import_papers(
    sources: Annotated[
        list[str],
        typer.Argument(help="Saved daily pages (text or HTML), BibTeX or Atom files, or arXiv identifiers."),
    ],
    *,
    year: Annotated[
        int | None, typer.Option(min=1990, max=2200, help="The year of a daily page's days without one; else inferred.")
    ] = None,
    shelf: ShelfFile = None,
    shown: Shown,
) -> None:
    """Add papers from files or by their arXiv identifiers; the same file twice changes nothing.

    Papers of the catalogue are recognised by title or identifier; each other one is listed with the command that starts
    code for it. Entries that cannot be read are listed with their line.
    """
    from letheon.jobs.page import ImportJob, shelf_file
    from letheon.printing.page import show_imported

    perform(ImportJob(shelf or shelf_file(), sources, year), shown, show_imported)


@page.command()
@expanded
def digest(
    *,
    since: Annotated[str, typer.Option(help="7d, 12h, 2w or a date: from when on something is new.")] = "7d",
    to: Annotated[str, typer.Option(help="The recipient; left out, all subscribers of the page.")] = "",
    smtp: Annotated[
        str,
        typer.Option(
            help="The mail server, smtp://user@host:587 or smtps://...; the password in LETHEON_SMTP_PASSWORD."
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Write the mail into this file (.eml) instead of sending it.")
    ] = None,
    site: Annotated[str, typer.Option(help="The page's address in the mail's links.")] = "http://127.0.0.1:8457",
    weekly: Annotated[
        bool, typer.Option("--schedule", help="Print a systemd timer and a cron line that do this every week.")
    ] = False,
    shelf: ShelfFile = None,
    shown: Shown,
) -> None:
    """Mail new papers, and new and changed verdicts, as HTML and plain text with a link to unsubscribe."""
    from letheon.jobs.page import DigestJob, shelf_file
    from letheon.printing.page import show_digest

    job = DigestJob(shelf or shelf_file(), since, to, smtp, out, site)
    if weekly:
        print(job.schedule(), end="")
    else:
        perform(job, shown, show_digest)
