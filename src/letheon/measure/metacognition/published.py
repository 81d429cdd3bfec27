"""The battery's published responses: one CSV per model and track; leaderboard, reliability, and an audit of the files.

Source:  synthiumjp/metacognitive-monitoring-battery (responses CC BY 4.0), whose aggregates these functions recompute:
         rates in percent, a mean over the tracks T1 to T5 that have a withdraw delta, T6 beside it.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from scipy import stats

from letheon.core.errors import InputError
from letheon.measure.metacognition.monitoring import Cell, Response, cell, profile

# The folders of the release, and the names of the tracks.
FOLDERS = {
    "Overhypothesis": "T1",
    "Meta Cog": "T2",
    "Social Cognition": "T3",
    "Attention": "T4",
    "Executive": "T5",
    "prospective": "T6",
}
SCORED = ("T1", "T2", "T3", "T4", "T5")
HALVES = (("T1", "T2", "T4"), ("T3", "T5", "T6"))
SUFFIX = re.compile(r"\s*(overhyp|metacog|social cog|soc cog|socialcog|attention|exec|prospective_regulation_results)$")
# File names that differ from the names of the published tables, in lower case.
ALIASES = {
    "r1": "DeepSeek R1",
    "deepseek-r1": "DeepSeek R1",
    "haiku": "Claude Haiku 4.5",
    "opus 4.6": "Claude Opus 4.6",
    "glm 5": "GLM-5",
    "gemini 3 flash preview": "Gemini 3 Flash",
    "gemini flash 3 preview": "Gemini 3 Flash",
    "gemini 3.1 pro preview": "Gemini 3.1 Pro",
    "qwen 3 235b a22b instruct": "Qwen 235B",
    "qwen 3 coder 480b": "Qwen Coder 480B",
    "qwen 3 next 80b instruct": "Qwen 80B Inst",
    "qwen 3 next 80b thinking": "Qwen 80B Think",
}
RESAMPLES, SEED = 10_000, 42
Responses = Mapping[str, Mapping[str, Sequence[Response]]]  # model -> track -> responses


def read_responses(folder: Path) -> Responses:
    """Read the release's folders of CSV files.

    Raises:
        InputError: a folder is missing, or a file lacks a column.
    """
    found: dict[str, dict[str, Sequence[Response]]] = {}
    for name, track in FOLDERS.items():
        files = sorted((folder / name).glob("*.csv"))
        if not files:
            raise InputError(f"{folder / name} holds no CSV files", "give the release's folder csvs")
        for file in files:
            found.setdefault(model_name(file), {})[track] = read_response_file(file, track)
    return dict(sorted(found.items()))


def model_name(file: Path) -> str:
    """Return the published name of a file's model."""
    stem = SUFFIX.sub("", file.stem.lower())
    return ALIASES.get(stem, file.stem[: len(stem)])


def read_response_file(file: Path, track: str) -> list[Response]:
    """Read one file of responses.

    Raises:
        InputError: a column is missing, or a row ends before one.
    """
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = list(csv.DictReader(text))
    right, item = ("is_correct", "item_id") if track == "T6" else ("correct", "item")
    for name in (item, right, "keep_withdraw", "bet_nobet"):
        if not rows or name not in rows[0]:
            raise InputError(f"{file} has no column {name!r}", "give the release's files")
    for number, row in enumerate(rows, start=1):
        for name in (item, right, "keep_withdraw", "bet_nobet"):
            if row[name] is None:
                raise InputError(f"{file}, row {number}, field {name!r}: nothing", "the row ends too early: mend it")
    return [
        Response(
            item=row[item],
            track=track,
            correct={"true": True, "false": False}.get(row[right].strip().lower()),
            keep={"KEEP": True, "WITHDRAW": False}.get(row["keep_withdraw"].strip().upper()),
            bet={"BET": True, "NO_BET": False}.get(row["bet_nobet"].strip().upper()),
            path=row.get("path_choice") or "",
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Standing:
    """One model's aggregates, in percent and percentage points as the release has them.

    Attributes:
        delta: mean withdraw delta over the scored tracks that have one.
        accuracy: mean accuracy over T1 to T5, as a share.
        profile: by the thresholds; the release's own label was adjusted by hand.
        direct: share of T6's items that were answered directly, in percent.
        accuracy_rank, delta_rank: from 1, the highest first.
    """

    model: str
    delta: float
    accuracy: float
    profile: str
    direct: float
    accuracy_rank: int = 0
    delta_rank: int = 0


def cells(responses: Responses) -> dict[str, dict[str, Cell]]:
    """Summarise every model and track, with unread probes counted as withdrawals, as the release does."""
    return {
        model: {track: cell(rows, unread_withdraws=True) for track, rows in sorted(tracks.items())}
        for model, tracks in responses.items()
    }


def standings(responses: Responses) -> list[Standing]:
    """Compute the leaderboard, the highest withdraw delta first."""
    found = cells(responses)
    made = []
    for model, tracks in found.items():
        deltas = [one for track in SCORED if (one := tracks[track].delta.value) is not None]
        keeps = [float(tracks[track].keeps or 0.0) for track in SCORED]
        accuracy = mean(float(tracks[track].accuracy or 0.0) for track in SCORED)
        direct = mean(response.path == "ANSWER_DIRECTLY" for response in responses[model]["T6"])
        label = profile(mean(keeps), mean(deltas) if deltas else None)
        made.append((model, 100 * mean(deltas), accuracy, label, 100 * direct))
    by_delta = sorted(made, key=lambda one: -one[1])
    by_accuracy = sorted(made, key=lambda one: -one[2])
    return [Standing(*one, by_accuracy.index(one) + 1, place) for place, one in enumerate(by_delta, start=1)]


@dataclass(frozen=True)
class Reliability:
    """Split-half reliability over models, and the effect size between the profiles C and A."""

    split_half: float
    spearman_brown: float
    effect: float
    effect_interval: tuple[float, float]


def reliability(responses: Responses, profiles: Mapping[str, str]) -> Reliability:
    """Compute the release's reliability statistics.

    Args:
        profiles: model -> label; the published file rests on the labels that were adjusted by hand.
    """
    found = cells(responses)
    halves: list[tuple[float, float]] = []
    for tracks in found.values():
        sides = [[one for t in half if (one := tracks[t].delta.value) is not None] for half in HALVES]
        if min(map(len, sides)) >= 2:
            halves.append((mean(sides[0]), mean(sides[1])))
    r = float(stats.pearsonr(*zip(*halves, strict=True)).statistic)
    deltas = {one.model: one.delta for one in standings(responses)}
    selective, blanket = ([deltas[model] for model, label in profiles.items() if label == kind] for kind in ("C", "A"))
    return Reliability(r, 2 * r / (1 + r), cohens_d(selective, blanket), _effect_interval(selective, blanket))


def cohens_d(first: Sequence[float], second: Sequence[float]) -> float:
    """Compute Cohen's d with the pooled standard deviation (n - 1)."""
    a, b = np.asarray(first), np.asarray(second)
    pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2)
    return float((a.mean() - b.mean()) / np.sqrt(pooled)) if pooled > 0 else float("nan")


def _effect_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    rng, sides = np.random.default_rng(SEED), (np.asarray(first), np.asarray(second))
    drawn = [[side[rng.integers(0, len(side), len(side))] for side in sides] for _ in range(RESAMPLES)]
    a, b = (np.stack(side) for side in zip(*drawn, strict=True))
    n, m = len(first), len(second)
    pooled = ((n - 1) * a.var(1, ddof=1) + (m - 1) * b.var(1, ddof=1)) / (n + m - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = (a.mean(1) - b.mean(1)) / np.sqrt(pooled)
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def identical_files(folder: Path) -> list[tuple[str, list[str]]]:
    """Find files of different models that are equal byte for byte: (track, models), which cannot both be right."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, track in FOLDERS.items():
        for file in sorted((folder / name).glob("*.csv")):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            groups.setdefault((track, digest), []).append(model_name(file))
    return [(track, models) for (track, _), models in sorted(groups.items()) if len(models) > 1]
