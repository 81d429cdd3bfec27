"""Start a method, a probe or a paper of your own: write its file and its test, a working example to be changed.

letheon new objective my_objective --out my_package/

Existing files are never overwritten. Inside a checkout of letheon the files go to their places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.shared import verb


@verb(__doc__)
def new(
    kind: Annotated[
        str,
        typer.Argument(help="objective, update, scope, sampler, edit, procedure, strategy, steering, probe or paper."),
    ],
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits, underscores.")],
    out: Annotated[Path, typer.Option(help="A checkout of letheon, or any folder for a package of your own.")] = Path(),
) -> None:
    """Write the two files and name them."""
    from letheon.jobs.new import write_new
    from letheon.printing.new import show_new

    show_new(write_new(kind, name, out))
