"""The main job on a small real model: teach invented people, forget two, audit, report.

letheon demo --quick
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.shared import METHOD, OUTPUT, Shown, Where, perform, verb


@verb(__doc__)
def demo(
    *,
    method: Annotated[
        str, typer.Option(help="Another recipe than the demo's, to see what it does.", rich_help_panel=METHOD)
    ] = "",
    quick: Annotated[
        bool, typer.Option(help="Train no reference, and audit fewer rows.", rich_help_panel="The audit")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for models, run, report.html and audit.json.", rich_help_panel=OUTPUT)
    ] = Path("letheon-demo"),
    where: Where,
    shown: Shown,
) -> None:
    """Perform the demo."""
    from letheon.jobs.demo import DemoJob
    from letheon.printing.demo import show_demo

    perform(DemoJob(out, quick=quick, method=method, machine=where), shown, show_demo)
