"""`letheon new`: start a method or a paper of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.app import app


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="objective, update, scope, sampler, edit, procedure, strategy or paper.")],
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits, underscores.")],
    out: Annotated[Path, typer.Option(help="A checkout of letheon, or any folder for a package of your own.")] = Path(),
) -> None:
    """Write the file of a method or a paper, and its test: a working example to be changed. It overwrites no file."""
    from letheon.jobs.new import write_new

    written = write_new(kind, name, out)
    typer.echo(f"{written.file}\n{written.test}")
    if written.entry:
        typer.echo(f"add this to the catalogue.toml beside it:\n\n{written.entry}", err=True)
    typer.echo(f"run its test with: pytest {written.test}", err=True)
