"""Render an audit's page anew, or put several audits side by side. No model is loaded.

letheon report run/ --pdf

letheon report npo/ simnpo/ retrained/audit.json --out methods.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.shared import OUTPUT, Shown, option, perform, verb


@verb(__doc__)
def report(
    audits: Annotated[list[Path], typer.Argument(help="Run folders, or audit.json files, of any version since 0.1.")],
    *,
    out: Annotated[
        Path | None,
        option("The page; default report.html beside the record, comparison.html here for several.", OUTPUT),
    ] = None,
    pdf: Annotated[bool, option("Print it too, beside the page; needs Chromium on PATH.", OUTPUT, "--pdf")] = False,
    shown: Shown,
) -> None:
    """Perform the rendering."""
    from letheon.jobs.report import report_job
    from letheon.printing.report import show_report

    perform(report_job(audits, out, pdf), shown, show_report)
