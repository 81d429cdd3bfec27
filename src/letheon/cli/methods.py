"""List the parts of a recipe: what each does and needs, its badge and its paper.

letheon methods objective
"""

from __future__ import annotations

from typing import Annotated

import typer

from letheon.cli.shared import OUTPUT, Json, option, verb


@verb(__doc__)
def methods(
    kind: Annotated[
        str, typer.Argument(help="Only one kind: objective, update, scope, sampler, edit, procedure or strategy.")
    ] = "",
    markdown: Annotated[bool, option("Print the table of docs/methods.md.", OUTPUT)] = False,
    as_json: Json = False,
) -> None:
    """List the methods and print them."""
    from letheon.jobs.methods import list_methods
    from letheon.printing.methods import methods_markdown, show_methods

    if markdown:
        typer.echo(methods_markdown())
    else:
        show_methods(list_methods(kind), as_json)
