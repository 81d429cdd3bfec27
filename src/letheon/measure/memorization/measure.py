"""The measure `memorization`: which training rows does a learner memorise, and which test rows depend on them?

Data are scikit-learn's digits (with some labels flipped and two classes made rare, so that there is something to
memorise), or an .npz file with the arrays `inputs`, `labels`, `test_inputs`, `test_labels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from letheon.core.atomic import canonical_hash
from letheon.core.errors import InputError
from letheon.core.statistics import Estimate, estimate_auroc
from letheon.measure.benchmark import NOTHING, Against, Score, Scores
from letheon.measure.common_scores import mean_score
from letheon.measure.memorization.estimators import (
    MEMORISED,
    draw_subsets,
    high_influence_pairs,
    memorisation,
    memorisation_error,
    read_npz,
)
from letheon.measure.memorization.learners import LabelledRows, Learner
from letheon.measure.memorization.removal import removal_curve

ARRAYS = ("inputs", "labels", "test_inputs", "test_labels")
TRAIN, FLIPPED, RARE, RARE_ROWS = 1200, 0.05, (8, 9), 10
NO_FLIPS = "no labels were flipped"


@dataclass(frozen=True)
class Digits:
    """Digits with planted rows.

    Attributes:
        flipped: training rows whose label was changed.
        rare: test rows of the classes of which few training rows are left.
    """

    rows: LabelledRows
    flipped: Bool[np.ndarray, " train"]
    rare: Bool[np.ndarray, " test"]


def planted_digits(train: int = TRAIN, flipped: float = FLIPPED, rare_rows: int = RARE_ROWS, seed: int = 0) -> Digits:
    """Split scikit-learn's 1,797 digits, keep few training rows of two classes, and flip some labels of the others."""
    from sklearn.datasets import load_digits

    data, rng = load_digits(), np.random.default_rng(seed)
    order = rng.permutation(len(data.target))
    first, test = order[:train], order[train:]
    rare = np.concatenate([first[data.target[first] == c][:rare_rows] for c in RARE])
    kept = np.concatenate([first[~np.isin(data.target[first], RARE)], rare])
    labels = data.target[kept].copy()
    common = np.flatnonzero(~np.isin(labels, RARE))
    flips = rng.choice(common, round(flipped * len(kept)), replace=False)
    labels[flips] = (labels[flips] + rng.integers(1, 10, len(flips))) % 10
    marked = np.zeros(len(kept), dtype=bool)
    marked[flips] = True
    inputs = torch.tensor(data.data / 16, dtype=torch.float32)
    rows = LabelledRows(inputs[kept], torch.tensor(labels), inputs[test], torch.tensor(data.target[test]))
    return Digits(rows, marked, np.isin(data.target[test], RARE))


@dataclass(frozen=True)
class Memorization:
    """Rows, and how many subsets a learner is trained on.

    Attributes:
        flipped: training rows known to be mislabelled; none where that is not known.
        rare: test rows of rare classes, likewise.
        subsets, ratio: number of subsets, and their share of the training rows.
        removed: rows that the removal curve takes away; none draws no curve.
        runs: file that the subset runs are saved in, for later analyses; empty saves none.
    """

    rows: LabelledRows
    flipped: Bool[np.ndarray, " train"]
    rare: Bool[np.ndarray, " test"]
    subsets: int = 400
    ratio: float = 0.7
    removed: tuple[int, ...] = ()
    runs: str = ""
    source: str = "digits"
    seed: int = 0

    name = "memorization"
    columns = (
        *("memorisation", "memorised rows", "AUROC flipped labels", "influential pairs", "dependent test rows"),
        *("accuracy", "accuracy, rare", "without memorised", "without random", "without least"),
        *("rare, without memorised", "rare, without random", "rare, without least"),
    )

    def config(self) -> dict[str, Any]:
        """Return source, counts and the number of subsets."""
        counts = {
            "train": len(self.rows.labels),
            "test": len(self.rows.test_labels),
            "flipped": int(self.flipped.sum()),
        }
        labels = [self.rows.labels.tolist(), self.rows.test_labels.tolist()]
        options = {"subsets": self.subsets, "ratio": self.ratio, "removed": list(self.removed)}
        return {"source": self.source, "seed": self.seed, "counts": counts, **options, "hash": canonical_hash(labels)}

    def evaluate(self, model: Learner, against: Against = NOTHING) -> Scores:
        """Train on the subsets, estimate memorisation and influence, and draw the removal curve."""
        mask = draw_subsets(len(self.rows.labels), self.ratio, self.subsets, self.seed)
        runs = model.run(self.rows, mask, self.seed)
        if self.runs:
            runs.save(Path(self.runs))
        scores, errors = memorisation(runs), memorisation_error(runs)
        labels, test_labels = self.rows.labels.numpy(), self.rows.test_labels.numpy()
        pairs = high_influence_pairs(runs, labels, test_labels)
        known = {str(i): float(value) for i, value in enumerate(scores) if np.isfinite(value)}
        held = {row: float(value >= MEMORISED) for row, value in known.items()}
        test = {str(i): float(value) for i, value in enumerate(runs.test_correct.mean(0))}
        rare = {row: value for row, value in test.items() if self.rare[int(row)]}
        usable = np.isfinite(scores)  # rows that every subset holds, or none, have no score
        sides = [scores[usable & side].tolist() for side in (self.flipped, ~self.flipped)]
        flipped = estimate_auroc(*sides, seed=self.seed)
        found = [
            mean_score("memorisation", known, "zero", seed=self.seed),
            mean_score("memorised rows", held, "zero", share=True),
            Score("AUROC flipped labels", flipped, "higher", why=NO_FLIPS if flipped.value is None else ""),
            Score("influential pairs", Estimate(float(len(pairs)), None, None, len(labels)), "zero"),
            Score("dependent test rows", Estimate(float(len({p.test for p in pairs})), None, None, len(test)), "zero"),
            mean_score("accuracy", test, "higher", seed=self.seed),
            mean_score("accuracy, rare", rare, "higher", seed=self.seed, why="no class is rare"),
            *self._removal(model, scores),
        ]
        records = [
            {"id": str(i), "parsed": known.get(str(i)), "standard error": float(errors[i]), "label": int(labels[i])}
            | {"flipped": bool(self.flipped[i]), "prompt": "", "answer": f"{scores[i]:.3f}"}
            for i in np.argsort(-np.nan_to_num(scores))
        ]
        notes = [f"standard error of a row's memorisation: {float(np.median(errors)):.3f} (median)"]
        return Scores(tuple(found), records=tuple(records), notes=tuple(notes))

    def _removal(self, learner: Learner, scores: np.ndarray) -> list[Score]:
        found = []
        for point in removal_curve(self.rows, scores, learner, self.removed, group=self.rare, seed=self.seed):
            last = "" if point.removed == self.removed[-1] else f" ({point.removed} rows)"
            for prefix, values in (("", point.accuracy), ("rare, ", point.group)):
                if values is not None and np.isfinite(values).all():
                    items = {str(i): value for i, value in enumerate(values)}
                    name = f"{prefix}without {point.order}{last}"
                    found.append(mean_score(name, items, "higher", seed=self.seed))
        return found


def read_memorization(
    data: str = "",
    *,
    limit: int = 0,
    seed: int = 0,
    subsets: int = 400,
    ratio: float = 0.7,
    remove: int = 0,
    runs: str = "",
) -> Memorization:
    """Read the rows.

    Args:
        data: `digits` (the default), or an .npz file with `inputs`, `labels`, `test_inputs`, `test_labels`.
        limit: number of training rows, drawn under `seed`; 0 takes all.
        subsets, ratio: number of subsets, and their share of the rows.
        remove: rows that the removal curve takes away at most; 0 draws none.
        runs: .npz file to save the subset runs in.

    Raises:
        InputError: an array is missing or of the wrong shape, or too few subsets.
    """
    if subsets < 2:
        raise InputError(f"{subsets} subsets", "give at least 2; scores of single rows need 400")
    if data in ("", "digits"):
        digits = planted_digits(limit or TRAIN, seed=seed)
        rows, flipped, rare = digits.rows, digits.flipped, digits.rare
    else:
        rows = read_rows_of_classes(Path(data), limit, seed)
        flipped, rare = (np.zeros(len(labels), dtype=bool) for labels in (rows.labels, rows.test_labels))
    removed = tuple(round(remove * share) for share in (0.25, 0.5, 1)) if remove else ()
    return Memorization(rows, flipped, rare, subsets, ratio, removed, runs, data or "digits", seed)


def read_rows_of_classes(path: Path, limit: int, seed: int) -> LabelledRows:
    """Read an .npz file of rows with classes.

    Raises:
        InputError: an array is missing, of the wrong shape, or holds no whole numbers as classes.
    """
    arrays = read_npz(path, ARRAYS)
    for kind in ("", "test_"):
        inputs, labels = arrays[f"{kind}inputs"], arrays[f"{kind}labels"]
        whole = labels.ndim == 1 and len(labels) and np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0
        if not whole or inputs.ndim < 2 or len(inputs) != len(labels) or not np.issubdtype(inputs.dtype, np.number):
            raise InputError(
                f"{path}: {kind}inputs of shape {inputs.shape} and {kind}labels of shape {labels.shape}",
                "give one input per label, and classes as whole numbers from 0",
            )
    if limit:
        chosen = np.random.default_rng(seed).permutation(len(arrays["labels"]))[:limit]
        arrays |= {name: arrays[name][chosen] for name in ("inputs", "labels")}
    tensors = [torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in ARRAYS]
    flat = [tensors[i].flatten(1).float() for i in (0, 2)]
    return LabelledRows(flat[0], tensors[1].long(), flat[1], tensors[3].long())
