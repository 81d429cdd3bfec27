"""`letheon audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from letheon.cli.app import NOT_A_PASS, Device, DryRun, Json, Ledger, Model, Quiet, Seed, app, exit_with, quieten


@app.command()
def audit(
    before: Model,
    after: Annotated[str, typer.Argument(help="The model after the deletion, made by any tool.")],
    request: Annotated[Path, typer.Option(help="request.json: what was to be forgotten and kept.")],
    reference: Annotated[
        str, typer.Option(help="A model trained without the forget rows, or proxy:BASE to train a stand-in now.")
    ] = "",
    profile: Annotated[str, typer.Option(help="standard, strict, or a TOML file.")] = "standard",
    out: Annotated[Path, typer.Option(help="Folder for audit.json and report.html.")] = Path("audit"),
    ledger: Ledger = "",
    quick: Annotated[bool, typer.Option(help="Fewer rows and steps.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Measure what a deletion did and decide by criteria fixed beforehand."""
    from letheon.jobs.auditing import audit_plan, run_audit
    from letheon.printing import show_audit, show_plan

    quieten(quiet)
    if dry_run:
        show_plan(audit_plan(before, after, request, reference, profile, out, ledger), as_json)
        return
    record = run_audit(before, after, request, reference, profile, out, quick, seed, device, ledger)
    show_audit(record, out, as_json)
    exit_with(record)


@app.command()
def selftest(
    model: Annotated[
        Literal["tiny", "smollm2"], typer.Option(help="What the fakes are built on; smollm2 takes some minutes.")
    ] = "tiny",
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Audit the audit: build fakes that it must fail and a retrained model that it must pass. Writes nothing.

    Example: letheon selftest --model smollm2
    """
    from letheon.audit.selftest import run_selftest
    from letheon.core.models import check_device
    from letheon.printing import show_selftest

    quieten(quiet)
    found = run_selftest(model, seed, check_device(device))
    show_selftest(found, as_json)
    if not found.passed:
        raise typer.Exit(NOT_A_PASS)
