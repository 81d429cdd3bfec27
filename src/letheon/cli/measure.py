"""Measure a model against people, norms or its own training data; or compare two such measurements.

letheon measure norming smollm2 --data norms.csv --set rating=FAM_Glas --limit 200 --out norming/

letheon measure word_features --endpoint http://127.0.0.1:8000/v1 --endpoint-model NAME --data glasgow_norms.csv

letheon measure compare RUN RUN

letheon measure normad --export-lm-eval tasks/

A measurement behind an endpoint stores every answer, so a run that was stopped asks only what is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.options import Group
from letheon.cli.shared import METHOD, OUTPUT, ROWS, Shown, Where, option, perform, verb
from letheon.jobs.measure import EndpointOptions, MeasureData

NAMES = (
    "norming, word_features, metacognition, memorization, compression_decay, few_shot_memories, priming, normad, "
    "egonormia, normgenesis, memorability, tip_of_tongue, behaviour; or compare."
)


@verb(__doc__)
def measure(
    name: Annotated[str, typer.Argument(help=NAMES)],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]",
            help="smollm2, tiny, a Hugging Face id or a folder; mlp for memorization; two folders after compare.",
        ),
    ] = None,
    *,
    data: Annotated[MeasureData, Group(ROWS)],
    endpoint: Annotated[EndpointOptions, Group(METHOD)],
    out: Annotated[Path | None, option("Folder of the page, the scores and the items.", OUTPUT)] = None,
    export_lm_eval: Annotated[
        Path | None,
        option(
            "Folder for the items as tasks of lm-evaluation-harness; no MODEL is needed, nothing is measured.", OUTPUT
        ),
    ] = None,
    where: Where,
    shown: Shown,
) -> None:
    """Perform the measurement."""
    from letheon.jobs.measure import CompareRunsJob, ExportTasksJob, MeasureJob
    from letheon.printing.measure import show_measurement, show_run_comparison, show_tasks

    if name == "compare":
        perform(CompareRunsJob(tuple(models or ())), shown, show_run_comparison)
        return
    if export_lm_eval is not None:
        export = ExportTasksJob(name, data, export_lm_eval, where.seed)
        perform(export, shown, lambda names, as_json: show_tasks(names, export_lm_eval, as_json))
        return
    job = MeasureJob(name, tuple(models or ()), data, endpoint, out, where)
    perform(job, shown, lambda result, as_json: show_measurement(result, out, as_json))
