"""Open the page of papers: a site on this machine that lists, searches and runs them, or the same as static files.

letheon page; letheon page --build site/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.options import expanded
from letheon.cli.shared import Shown, perform
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
        perform(BuildJob(shelf or shelf_file(), build, embedder), shown, show_built)
        return
    job = ServeJob(shelf or shelf_file(), folders or [], port, embedder)
    plan = job.plan()
    if shown.dry_run:
        show_plan(plan, shown.as_json)
    else:
        show_address(plan, shown.as_json)
        job.work()
