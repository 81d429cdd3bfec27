"""Run a benchmark of unlearning: target, reference and every method, in the field's own metrics.

letheon bench tofu --model smollm2 --data TOFU/ --split forget05 --methods npo,simnpo+geometric --train --out bench/

The options of the training apply to every method; their defaults, where a method recommends nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from letheon.cli.options import Given, Group
from letheon.cli.shared import METHOD, OUTPUT, ROWS, AtOnceTracked, Shown, Where, option, perform, verb
from letheon.cli.training import ForgettingEach
from letheon.jobs.options import BenchData, BenchModels
from letheon.measure.bench import Teaching

Taught = Annotated[dict[str, Any], Given(Teaching, panel="Target and reference, with --train", prefix="train_")]


@verb(__doc__)
def bench(
    benchmark: Annotated[str, typer.Argument(help="tofu, muse, wmdp or rwku.")],
    *,
    data: Annotated[BenchData, Group(ROWS)],
    models: Annotated[BenchModels, Group(METHOD)],
    methods: Annotated[str, option("Methods, separated by commas: npo,simnpo+geometric,rmu.", METHOD)] = "",
    teaching: Taught,
    training: ForgettingEach,
    out: Annotated[Path, option("Folder; a bench begun there is continued.", OUTPUT)] = Path("bench"),
    where: Where,
    parallel: AtOnceTracked,
    shown: Shown,
) -> None:
    """Perform the benchmark."""
    from letheon.jobs.bench import BenchJob
    from letheon.printing.bench import show_bench

    job = BenchJob(benchmark, data, models, methods, teaching, training, out, where, parallel)
    perform(job, shown, lambda result, as_json: show_bench(result, out, as_json), parallel)
