"""Measure what a deletion did, and decide by criteria fixed beforehand whether it worked.

letheon audit BEFORE AFTER --request run/request.json --reference proxy:smollm2

letheon audit BEFORE AFTER --request run/request.json --after-learning stream.toml --evaluate-every 10
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.processes import run_in_processes
from letheon.cli.shared import (
    OUTPUT,
    Continued,
    Model,
    Processes,
    Rows,
    Scope,
    Shown,
    Where,
    exit_with,
    option,
    perform,
    verb,
)
from letheon.cli.training import LearningOn


@verb(__doc__)
def audit(
    before: Model,
    after: Annotated[str, typer.Argument(help="The model after the deletion, made by any tool.")],
    *,
    rows: Rows,
    scope: Scope,
    continued: Continued,
    learning: LearningOn,
    out: Annotated[Path, option("Folder for audit.json and report.html.", OUTPUT)] = Path("audit"),
    where: Where,
    processes: Processes = 1,
    shown: Shown,
) -> None:
    """Perform the audit."""
    from letheon.jobs.audit import AuditJob
    from letheon.printing.audit import show_audit

    if not shown.dry_run:
        run_in_processes(processes, "run it again: models whose examination was stored are not examined anew")
    job = AuditJob(before, after, rows, scope, continued, learning, out, where)
    exit_with(perform(job, shown, lambda record, as_json: show_audit(record, out, as_json), together=True))
