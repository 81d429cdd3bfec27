"""`letheon audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.app import Device, DryRun, Json, Model, Quiet, Seed, app, exit_with, quieten


@app.command()
def audit(
    before: Model,
    after: Annotated[str, typer.Argument(help="The model after the deletion, made by any tool.")],
    request: Annotated[Path, typer.Option(help="request.json: what was to be forgotten and kept.")],
    reference: Annotated[str, typer.Option(help="A model trained without the forget rows.")] = "",
    profile: Annotated[str, typer.Option(help="standard, strict, or a TOML file.")] = "standard",
    out: Annotated[Path, typer.Option(help="Folder for audit.json and report.html.")] = Path("audit"),
    quick: Annotated[bool, typer.Option(help="Fewer rows and steps.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Measure what a deletion did and decide by criteria fixed beforehand."""
    from letheon.job import audit_plan, run_audit
    from letheon.printing import show_audit, show_plan

    quieten(quiet)
    if dry_run:
        show_plan(audit_plan(before, after, request, reference, profile, out), as_json)
        return
    record = run_audit(before, after, request, reference, profile, out, quick, seed, device)
    show_audit(record, out, as_json)
    exit_with(record)
