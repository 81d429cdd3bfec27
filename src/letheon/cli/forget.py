"""Make a model forget rows and keep others; save it; audit it.

letheon forget smollm2 --forget rows.jsonl --retain keep.jsonl --method simnpo+geometric --out run/

letheon forget FURTHER-TRAINED --reapply run/update/update.safetensors --out again/

The defaults of the training apply where the method recommends nothing else.
"""

from __future__ import annotations

from typing import Annotated

import typer

from letheon.cli.processes import run_in_processes
from letheon.cli.shared import (
    ROWS,
    Audited,
    Earlier,
    Folders,
    Method,
    Rows,
    Shown,
    Together,
    exit_with,
    option,
    perform,
    verb,
)
from letheon.cli.training import Forgetting
from letheon.core.errors import InputError
from letheon.printing.cells import show_facts


@verb(__doc__)
def forget(
    model: Annotated[str, typer.Argument(help="The model to change; left out with --resume.")] = "",
    *,
    rows: Rows,
    sequence: Annotated[
        str,
        option(
            "Requests served one after another: a folder of request*.json, or a JSON-lines file. --method is then "
            "one recipe, or 'LOW; MEDIUM; HIGH' by importance; with --resume, these requests follow those already "
            "served. A sample of earlier requests is asked again; there is no other audit.",
            ROWS,
        ),
    ] = "",
    method: Method,
    earlier: Earlier,
    training: Forgetting,
    audit: Audited,
    folders: Folders,
    devices: Together,
    shown: Shown,
) -> None:
    """Choose the job by the options, and perform it."""
    from letheon.forget.sequences.sequence import is_sequence
    from letheon.jobs.forget import ForgetOptions, forget_job
    from letheon.jobs.reapply import ReapplyJob
    from letheon.jobs.sequence import sequence_job
    from letheon.printing.forget import show_forget

    queue = bool(sequence) or is_sequence(folders.resume)
    if devices.processes != 1 and (queue or earlier.reapply is not None):
        raise InputError("--processes with a sequence or --reapply, which are work for one process", "leave it out")
    if not shown.dry_run:
        run_in_processes(devices.processes, f"continue it with --resume {folders.resume or folders.out}")
    device = devices.device
    given = ForgetOptions(model, rows, method, training, audit, folders, device)
    if earlier.reapply is not None:
        beside = [name for name in given.names() if name in ("forget", "retain", "request", "method")]
        beside += [name for name, value in (("sequence", sequence), ("resume", folders.resume)) if value]
        perform(ReapplyJob(model, earlier.reapply, earlier.scale, folders.out, beside, device), shown, show_facts)
    elif queue:
        perform(sequence_job(given, sequence), shown, show_facts, folders)
    else:
        done = perform(forget_job(given), shown, show_forget, folders, together=True)
        exit_with(done.record if done else None)
