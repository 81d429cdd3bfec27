"""A model's scores in the layout of lm-evaluation-harness, so that what loads its results loads ours.

A benchmark is one task; a score is a metric of it, `forget_quality,none`, with a standard error that its interval
gives (a quarter of it and a little less), `N/A` where there is none.
"""

from __future__ import annotations

import re
import time
from typing import Any

from letheon.core.statistics import Estimate
from letheon.measure.benchmark import Bench, BenchedModel

TWO_SIDES = 2 * 1.959964  # standard errors in a 95 % interval
VERSION = 1.0


def results(bench: Bench, measured: BenchedModel) -> dict[str, Any]:
    """The object that the harness writes to `results_*.json`; scores that could not be computed are left out."""
    scores = measured.scores.scores if measured.scores is not None else ()
    known = [score for score in scores if score.estimate.value is not None]
    task = _name(f"{bench.benchmark} {bench.split}")
    values: dict[str, Any] = {"alias": task}
    for score in known:
        values[f"{_name(score.name)},none"] = score.estimate.value
        values[f"{_name(score.name)}_stderr,none"] = _error(score.estimate)
    rows = max((score.estimate.n for score in known), default=0)
    return {
        "results": {task: values},
        "configs": {task: {"task": task, "metadata": {"version": VERSION}, **bench.config}},
        "versions": {task: VERSION},
        "n-shot": {task: 0},
        "higher_is_better": {task: {_name(score.name): score.better == "higher" for score in known}},
        "n-samples": {task: {"original": rows, "effective": rows}},
        "config": {"model": "hf", "model_args": f"pretrained={measured.name}", "limit": None},
        "git_hash": None,
        "date": time.time(),
    }


def _name(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_").lower()


def _error(estimate: Estimate) -> float | str:
    if estimate.low is None or estimate.high is None:
        return "N/A"
    return (estimate.high - estimate.low) / TWO_SIDES
