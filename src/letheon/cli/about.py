"""`letheon methods`, `doctor` and `version`."""

from __future__ import annotations

from typing import Annotated

import typer

from letheon.cli.app import Json, app, print_json


@app.command()
def methods(
    kind: Annotated[str, typer.Argument(help="Only objective, update, scope or sampler.")] = "",
    markdown: Annotated[bool, typer.Option(help="The table that the README holds.")] = False,
    as_json: Json = False,
) -> None:
    """What there is: parts of a recipe, what each needs, its badge and its paper."""
    from letheon.printing.listings import methods_markdown, show_methods

    if markdown:
        typer.echo(methods_markdown())
    else:
        show_methods(kind, as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, device, threads, measured speed, cached models, extras and what each unlocks."""
    from letheon.doctor import examine
    from letheon.printing.listings import show_doctor

    show_doctor(examine(), as_json)


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    from letheon import __version__

    print_json({"letheon": __version__}) if as_json else typer.echo(__version__)
