"""See whether unlearning one domain's refusals broke the refusals of others.

letheon spillover smollm2 run/model --suite suite.jsonl --unlearned gardening --out spillover/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from letheon.cli.shared import AUDIT, OUTPUT, ROWS, Device, Model, Shown, option, perform, verb


@verb(__doc__)
def spillover(
    before: Model,
    after: Annotated[str, typer.Argument(help="The model after unlearning, made by any tool.")],
    *,
    suite: Annotated[
        Path,
        option('JSON lines {"domain", "prompt"}; the domain `neutral` holds prompts that should be answered.', ROWS),
    ],
    unlearned: Annotated[
        str, option("The domain whose refusals were unlearned; default the one that lost most.", ROWS)
    ] = "",
    judge: Annotated[str, option("A model that judges whether answers are sound language.", AUDIT)] = "",
    position: Annotated[
        Literal["last", "mean"], option("Where concepts are read: the last prompt token, or the mean.", AUDIT)
    ] = "last",
    max_new_tokens: Annotated[int, option("Longest answer in tokens.", AUDIT, min=1)] = 64,
    out: Annotated[Path | None, option("Folder for spillover.html and spillover.json.", OUTPUT)] = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Perform the comparison of refusals."""
    from letheon.jobs.spillover import SpilloverJob
    from letheon.printing.spillover import show_spillover

    job = SpilloverJob(before, after, suite, unlearned, judge, position, max_new_tokens, out, device)
    perform(job, shown, lambda report, as_json: show_spillover(report, out, as_json))
