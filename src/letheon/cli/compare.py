"""Run several methods on one request, each at the learning rate that suits it, and draw what they gain and lose.

letheon compare smollm2 --request request.json --methods npo,simnpo+geometric,rmu,k-fade --budget 20m

The options of the training apply to every run; their defaults, where a method recommends nothing else.
"""

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.shared import METHOD, OUTPUT, TRAINING, Criteria, Model, Rows, Shown, Where, perform, verb
from letheon.cli.training import ForgettingEach


@verb(__doc__)
def compare(
    model: Model,
    *,
    rows: Rows,
    methods: Annotated[
        str,
        typer.Option(help="Methods, separated by commas: npo,simnpo+geometric,rmu,k-fade.", rich_help_panel=METHOD),
    ],
    budget: Annotated[
        str,
        typer.Option(help="Time for all runs together, without the audits: 90s, 20m, 1.5h.", rich_help_panel=TRAINING),
    ] = "20m",
    training: ForgettingEach,
    criteria: Criteria,
    out: Annotated[
        Path, typer.Option(help="Folder; a comparison begun there is continued.", rich_help_panel=OUTPUT)
    ] = Path("compare"),
    where: Where,
    shown: Shown,
) -> None:
    """Perform the comparison."""
    from letheon.jobs.compare import CompareJob
    from letheon.printing.compare import show_comparison

    job = CompareJob(model, methods, rows, budget, training, criteria, out, where)
    perform(job, shown, lambda comparison, as_json: show_comparison(comparison, out, as_json))
