"""`letheon audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from letheon.cli.app import (
    NOT_A_PASS,
    Device,
    DryRun,
    Json,
    Ledger,
    Model,
    Quiet,
    Reference,
    Seed,
    app,
    exit_with,
    quieten,
)

CONTINUED = "Learning on after the deletion"


@app.command()
def audit(
    before: Model,
    after: Annotated[str, typer.Argument(help="The model after the deletion, made by any tool.")],
    request: Annotated[Path, typer.Option(help="request.json: what was to be forgotten and kept.")],
    reference: Reference = "",
    profile: Annotated[str, typer.Option(help="standard, strict, or a TOML file.")] = "standard",
    out: Annotated[Path, typer.Option(help="Folder for audit.json and report.html.")] = Path("audit"),
    ledger: Ledger = "",
    quick: Annotated[bool, typer.Option(help="Fewer rows and steps.")] = False,
    gguf: Annotated[
        list[str] | None,
        typer.Option(
            help="A GGUF file type, such as Q4_0 or Q8_0: the weights are also rounded as that file would hold them. "
            "May be given again.",
        ),
    ] = None,
    after_learning: Annotated[
        str,
        typer.Option(
            help="Ordinary tasks that a copy of each model goes on to learn: does that bring the forgotten back, and "
            "what does it cost the kept? A stream.toml as `letheon learn --stream` takes it, or auto: two tasks of the "
            "request's general rows, else of half its retain rows. Off unless given: it is a training a model.",
            rich_help_panel=CONTINUED,
        ),
    ] = "",
    strategy: Annotated[
        str | None,
        typer.Option(
            help="How they are learned: naive (the default), replay:capacity=100, ...; see `letheon methods strategy`.",
            rich_help_panel=CONTINUED,
        ),
    ] = None,
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            help="Ask the forgotten and kept rows every so many steps too; 0, the default, after each task only.",
            rich_help_panel=CONTINUED,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over each task; default 1.", rich_help_panel=CONTINUED)
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", "--lr", help="Default 1e-5, of an adapter 2e-4.", rich_help_panel=CONTINUED),
    ] = None,
    adapter: Annotated[
        Literal["full", "lora"] | None,
        typer.Option(help="All weights move (the default), or an adapter.", rich_help_panel=CONTINUED),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Measure what a deletion did and decide by criteria fixed beforehand.

    letheon audit BEFORE AFTER --request run/request.json --reference proxy:smollm2

    letheon audit BEFORE AFTER --request run/request.json --after-learning stream.toml --evaluate-every 10
    """
    from letheon.jobs.auditing import AuditJob
    from letheon.printing.audits import show_audit
    from letheon.printing.cells import show_plan

    quieten(quiet)
    given = {
        "strategy": strategy,
        "evaluate_every": evaluate_every,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "adapter": adapter,
    }
    job = AuditJob(
        before=before,
        after=after,
        file=request,
        reference=reference,
        profile=profile,
        out=out,
        ledger=ledger,
        after_learning=after_learning,
        learning={name: value for name, value in given.items() if value is not None},
        quick=quick,
        gguf=tuple(gguf or ()),
        seed=seed,
        device=device,
    )
    if dry_run:
        show_plan(job.plan(), as_json)
        return
    record = job.work()
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
    from letheon.audit.selftest.selftest import run_selftest
    from letheon.core.model.models import check_device
    from letheon.printing.audits import show_selftest

    quieten(quiet)
    found = run_selftest(model, seed, check_device(device))
    show_selftest(found, as_json)
    if not found.passed:
        raise typer.Exit(NOT_A_PASS)
