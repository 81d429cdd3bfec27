"""See whether unlearning one domain's refusals broke the refusals of others.

letheon spillover smollm2 run/model --suite suite.jsonl --unlearned gardening --out spillover/
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from letheon.cli.shared import AUDIT, OUTPUT, ROWS, Device, Model, Shown, perform, verb


@verb(__doc__)
def spillover(
    before: Model,
    after: Annotated[str, typer.Argument(help="The model after unlearning, made by any tool.")],
    *,
    suite: Annotated[
        Path,
        typer.Option(
            help='JSON lines {"domain", "prompt"}; the domain `neutral` holds prompts that should be answered.',
            rich_help_panel=ROWS,
        ),
    ],
    unlearned: Annotated[
        str,
        typer.Option(
            help="The domain whose refusals were unlearned; default the one that lost most.", rich_help_panel=ROWS
        ),
    ] = "",
    judge: Annotated[
        str,
        typer.Option(help="A model that judges whether answers are sound language.", rich_help_panel=AUDIT),
    ] = "",
    position: Annotated[
        Literal["last", "mean"],
        typer.Option(help="Where concepts are read: the last prompt token, or the mean.", rich_help_panel=AUDIT),
    ] = "last",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.", rich_help_panel=AUDIT)] = 64,
    out: Annotated[
        Path | None, typer.Option(help="Folder for spillover.html and spillover.json.", rich_help_panel=OUTPUT)
    ] = None,
    device: Device = "auto",
    shown: Shown,
) -> None:
    """Perform the comparison of refusals."""
    from letheon.jobs.spillover import SpilloverJob
    from letheon.printing.spillover import show_spillover

    job = SpilloverJob(before, after, suite, unlearned, judge, position, max_new_tokens, out, device)
    perform(job, shown, lambda report, as_json: show_spillover(report, out, as_json))
