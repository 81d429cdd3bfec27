"""List the parts of a recipe: what each does and needs, its badge and its paper.

letheon methods objective
letheon methods --families
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
    families: Annotated[
        bool, option("Show which method works on which family of models, and why one does not.", OUTPUT)
    ] = False,
    markdown: Annotated[
        bool, option("Print the table of docs/methods.md; with --families those of docs/families.md.", OUTPUT)
    ] = False,
    as_json: Json = False,
) -> None:
    """List the methods and print them."""
    from letheon.jobs.methods import family_verdicts, list_methods
    from letheon.printing.methods import families_markdown, methods_markdown, show_families, show_methods

    if families:
        verdicts = family_verdicts()
        if markdown:
            typer.echo(families_markdown(verdicts))
        else:
            show_families(verdicts, as_json)
    elif markdown:
        typer.echo(methods_markdown())
    else:
        show_methods(list_methods(kind), as_json)
