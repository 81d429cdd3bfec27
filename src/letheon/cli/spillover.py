"""`letheon spillover`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from letheon.cli.app import Device, DryRun, Json, Model, Quiet, app, quieten


@app.command()
def spillover(
    before: Model,
    after: Annotated[str, typer.Argument(help="The model after, made by any tool.")],
    suite: Annotated[
        Path,
        typer.Option(help='JSON lines {"domain", "prompt"}; domain `neutral` holds what should be answered.'),
    ],
    unlearned: Annotated[
        str, typer.Option(help="The domain whose refusals were to go; else the one that lost most.")
    ] = "",
    judge: Annotated[str, typer.Option(help="A model that judges whether answers are sound language.")] = "",
    position: Annotated[
        Literal["last", "mean"], typer.Option(help="Where concepts are read: the last prompt token, or the mean.")
    ] = "last",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    out: Annotated[Path | None, typer.Option(help="Folder for spillover.html and spillover.json.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """See whether unlearning one domain's refusals broke others.

    letheon spillover smollm2 run/model --suite suite.jsonl --unlearned gardening --out spillover/
    """
    from letheon.audit.spillover.domain_suite import NEUTRAL, DomainSuite
    from letheon.audit.spillover.page import save_spillover
    from letheon.audit.spillover.spillover import check
    from letheon.audit.spillover.spillover import spillover as compare
    from letheon.core.atomic import check_writable
    from letheon.printing.audits import show_spillover
    from letheon.printing.cells import show_plan

    quieten(quiet)
    read = DomainSuite.read(suite)
    check(read, unlearned, before, after, *([judge] if judge else []))
    if out is not None:
        check_writable(out)
    if dry_run:
        asked = {domain: len(read.prompts(domain)) for domain in (*read.domains, NEUTRAL)}
        show_plan({"before": before, "after": after, "prompts": asked, "out": str(out) if out else None}, as_json)
        return
    report = compare(
        before,
        after,
        read,
        unlearned=unlearned,
        judge=judge or None,
        position=position,
        max_new_tokens=max_new_tokens,
        device=device,
    )
    if out is not None:
        save_spillover(report, out)
    show_spillover(report, out, as_json)
