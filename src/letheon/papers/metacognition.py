"""The Metacognitive Monitoring Battery: A Cross-Domain Benchmark for LLM Self-Monitoring.

arXiv 2604.15702, 2026-04; J.-P. Cacioli.

Measured here: every published aggregate, recomputed from the published responses of 20 models on six tracks, and an
audit of the files. The release says that its profile labels were adjusted by hand; three of them are not what its own
thresholds give, and no reading of "share of kept answers" gives all twenty, so this part of the claim fails. The
bootstrap interval of the effect size depends on an order of draws that is not stated; both intervals are reported.
Nothing is random here.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from letheon.measure.metacognition.monitoring import Cell
from letheon.measure.metacognition.published import (
    Standing,
    cells,
    identical_files,
    read_responses,
    reliability,
    standings,
)
from letheon.papers.common.data import data_folder
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale

GET = "get synthiumjp/metacognitive-monitoring-battery (CC BY 4.0): its folders csvs and published_outputs"
DUPLICATES = 4  # groups of files that are equal byte for byte under the names of different models
PRIMARY = ["cells", "withdraw delta", "accuracy", "ranks", "profiles", "reliability", "identical files are found"]


def reproduce(scale: Scale, found: Findings) -> None:
    """Compare every published aggregate with the one that the responses give."""
    found.baselines += ["the published aggregates"]
    folder = data_folder("metacog_battery", GET)
    responses = read_responses(folder / "csvs")
    outputs = folder / "published_outputs"
    board = {one.model: one for one in standings(responses)}
    rows = read(outputs / "all_tracks_probe_results.csv")
    decide(found, "cells", [same_cell(cells(responses)[row["model"]][row["track"]], row) for row in rows])
    ranked = read(outputs / "probe_adjusted_leaderboard.csv")
    for name, same in SAME.items():
        decide(found, name, [same(board[row["model"]], row) for row in ranked])
    stated = json.loads((outputs / "reliability_stats.json").read_text(encoding="utf-8"))
    own = reliability(responses, {row["model"]: row["profile"] for row in ranked})
    found.measured["reliability, recomputed"] = vars(own)
    found.measured["effect interval, published"] = stated["cohens_d_95_CI"]
    found.measured["labels that differ"] = {
        row["model"]: f"{row['profile']} in the release, {board[row['model']].profile} by its thresholds"
        for row in ranked
        if not same_profile(board[row["model"]], row)
    }
    exact = [
        round(own.split_half, 3) == stated["split_half_r"],
        round(own.spearman_brown, 3) == stated["spearman_brown"],
        round(own.effect, 3) == stated["cohens_d_C_vs_A"],
    ]
    decide(found, "reliability", exact)
    groups = identical_files(folder / "csvs")
    found.measured["identical files"] = {f"{track}: {', '.join(models)}": len(models) for track, models in groups}
    decide(found, "identical files are found", [len(groups) == DUPLICATES])


def read(path: Path) -> list[dict[str, str]]:
    """Read a published table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same_cell(one: Cell, row: Mapping[str, str]) -> bool:
    """Whether a cell equals the published one to every digit."""
    own = (
        f"{one.accuracy:.4f}",
        f"{100 * (one.keep_correct or 0.0):.2f}",
        f"{100 * (one.keep_incorrect or 0.0):.2f}",
        "" if one.delta.value is None else f"{100 * one.delta.value:.2f}",
        str(one.correct),
        str(one.incorrect),
    )
    names = ("accuracy", "kc_rate", "ki_rate", "withdraw_delta", "n_correct", "n_incorrect")
    return own == tuple(row[name] for name in names)


def same_profile(one: Standing, row: Mapping[str, str]) -> bool:
    """Whether the label by the thresholds is the published one."""
    return one.profile == row["profile"]


SAME: dict[str, Callable[[Standing, Mapping[str, str]], bool]] = {
    "withdraw delta": lambda one, row: f"{one.delta:.1f}" == row["mean_withdraw_delta"],
    "accuracy": lambda one, row: round(one.accuracy, 3) == float(row["mean_accuracy"]),
    "ranks": lambda one, row: (
        (str(one.accuracy_rank), str(one.delta_rank)) == (row["accuracy_rank"], row["metacognition_rank"])
    ),
    "profiles": same_profile,
}


def decide(found: Findings, part: str, equal: Sequence[Any]) -> None:
    """A part holds if all of its values are equal."""
    found.measured[part] = f"{sum(map(bool, equal))} of {len(equal)} equal"
    found.recompute(part, [bool(one) for one in equal])
