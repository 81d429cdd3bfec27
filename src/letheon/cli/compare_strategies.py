"""Run several strategies on one stream from the same weights and seeds, and draw the table.

letheon compare-strategies mlp --stream split-digits --strategies naive,replay,der,gem,joint --epochs 10
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from letheon.cli.shared import (
    METHOD,
    OUTPUT,
    TRAINING,
    AtOnceTracked,
    Device,
    Learner,
    Shown,
    Stream,
    option,
    perform,
    verb,
)
from letheon.cli.training import LearningEach


@verb(__doc__)
def compare_strategies(
    model: Learner,
    *,
    stream: Stream,
    strategies: Annotated[
        str, option("Separated by commas, ';' or spaces: naive,replay,ewc:strength=10,joint.", METHOD)
    ],
    training: LearningEach,
    seeds: Annotated[int, option("Number of seeds; intervals are over them.", TRAINING, min=1)] = 3,
    out: Annotated[Path, option("Folder for compare.json and compare.html.", OUTPUT)] = Path("strategies"),
    device: Device = "auto",
    parallel: AtOnceTracked,
    shown: Shown,
) -> None:
    """Perform the comparison."""
    from letheon.jobs.compare_strategies import CompareStrategiesJob
    from letheon.jobs.learn import Source
    from letheon.printing.compare_strategies import show_strategies

    job = CompareStrategiesJob(Source(model, stream, training), strategies, seeds, out, device, parallel)
    perform(job, shown, lambda result, as_json: show_strategies(result, out, as_json), parallel)
