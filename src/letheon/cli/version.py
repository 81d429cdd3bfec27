"""Print the version."""

from __future__ import annotations

import typer

from letheon import __version__
from letheon.cli.shared import Json, verb
from letheon.printing.cells import print_json


@verb(__doc__)
def version(as_json: Json = False) -> None:
    """Print the version."""
    print_json({"letheon": __version__}) if as_json else typer.echo(__version__)
