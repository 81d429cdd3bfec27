"""Run several methods on one request, each at the learning rate that suits it, and draw what they gain and lose.

letheon compare smollm2 --request request.json --methods npo,simnpo+geometric,rmu,k-fade --budget 20m

The options of the training apply to every run; their defaults, where a method recommends nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from letheon.cli.shared import (
    METHOD,
    OUTPUT,
    TRAINING,
    AtOnceTracked,
    Criteria,
    Model,
    Rows,
    Shown,
    Where,
    option,
    perform,
    verb,
)
from letheon.cli.training import ForgettingEach


@verb(__doc__)
def compare(
    model: Model,
    *,
    rows: Rows,
    methods: Annotated[str, option("Methods, separated by commas: npo,simnpo+geometric,rmu,k-fade.", METHOD)],
    budget: Annotated[str, option("Time for all runs together, without the audits: 90s, 20m, 1.5h.", TRAINING)] = "20m",
    training: ForgettingEach,
    criteria: Criteria,
    out: Annotated[Path, option("Folder; a comparison begun there is continued.", OUTPUT)] = Path("compare"),
    where: Where,
    parallel: AtOnceTracked,
    shown: Shown,
) -> None:
    """Perform the comparison."""
    from letheon.jobs.compare import CompareJob
    from letheon.printing.compare import show_comparison

    job = CompareJob(model, methods, rows, budget, training, criteria, out, where, parallel)
    perform(job, shown, lambda comparison, as_json: show_comparison(comparison, out, as_json), parallel)
