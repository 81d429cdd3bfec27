"""The output of `letheon new`."""

from __future__ import annotations

import typer

from letheon.jobs.new import NewFiles


def show_new(written: NewFiles) -> None:
    """Name the written files on standard output, and the next step on standard error."""
    typer.echo(f"{written.file}\n{written.test}")
    if written.entry:
        typer.echo(f"add this to the catalogue.toml beside it:\n\n{written.entry}", err=True)
    typer.echo(f"run its test with: pytest {written.test}", err=True)
