"""`letheon report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.app import DryRun, Json, app, print_json


@app.command()
def report(
    audits: Annotated[list[Path], typer.Argument(help="Run folders, or audit.json files, of any version since 0.1.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; default report.html beside the record, comparison.html here for several."),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Print it too, beside the page; needs Chromium on PATH.")] = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Render an audit's page anew, or put several audits side by side. No model is loaded.

    letheon report run/ --pdf

    letheon report npo/ simnpo/ retrained/audit.json --out methods.html
    """
    from letheon.jobs.reporting import report_job
    from letheon.printing.cells import show_plan

    job = report_job(audits, out, pdf)
    told = job.told()
    if dry_run:
        show_plan(told, as_json)
        return
    job.write()
    if as_json:
        print_json(told)
        return
    for name, outcome in told["verdicts"].items():
        typer.echo(f"{name}: {outcome}")
    typer.echo(f"report: {told['report']}")
    if told["pdf"]:
        typer.echo(f"PDF: {told['pdf']}")
