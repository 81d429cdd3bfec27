"""`letheon new`: start a method of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.app import app


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="objective, update, scope, sampler, edit, procedure or strategy.")],
    name: Annotated[str, typer.Argument(help="The method's name: lower-case letters, digits, underscores.")],
    out: Annotated[Path, typer.Option(help="A checkout of letheon, or any folder for a package of your own.")] = Path(),
) -> None:
    """Write a method's file and its test: a working example to be changed. Existing files are never overwritten."""
    from letheon.jobs.new import write_method

    file, test = write_method(kind, name, out)
    typer.echo(f"{file}\n{test}")
    typer.echo(f"run its test with: pytest {test}", err=True)
