"""The main job on a small real model: teach invented people, forget two, audit, report.

letheon demo --quick
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from letheon.cli.shared import AUDIT, METHOD, OUTPUT, Shown, Where, option, perform, verb


@verb(__doc__)
def demo(
    *,
    method: Annotated[str, option("Another recipe than the demo's, to see what it does.", METHOD)] = "",
    depth: Annotated[
        str, option("deep: distil the result into a noised copy (undo), for some times the cost.", METHOD)
    ] = "shallow",
    quick: Annotated[bool, option("Train no reference, and audit fewer rows.", AUDIT)] = False,
    out: Annotated[Path, option("Folder for models, run, report.html and audit.json.", OUTPUT)] = Path("letheon-demo"),
    where: Where,
    shown: Shown,
) -> None:
    """Perform the demo."""
    from letheon.jobs.demo import DemoJob
    from letheon.printing.demo import show_demo

    perform(DemoJob(out, quick=quick, method=method, depth=depth, machine=where), shown, show_demo)
