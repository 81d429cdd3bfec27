"""Linear probes: what a logistic regression reads from hidden states, judged on rows that it was not fitted on.

A probe says what is in the states, not what the model makes of it. Beside it belong two controls: the same probe with
shuffled labels (chance, with these folds), and one on the states of a model with random weights (what the words of the
prompt give away by themselves).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import record
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.sampling import by_length

Position = Literal["last", "mean"]
# Inverse strength of the L2 penalty on standardised states, of which there are often more numbers than rows.
STRENGTH = 0.1
INNER_FOLDS = 3


@torch.inference_mode()
def token_states(
    model: LanguageModel, rows: Sequence[Sequence[int]], *, position: Position = "last", batch_size: int = 32
) -> Float[Tensor, "layers rows width"]:
    """The residual stream after each block, a vector a row, float32 on the processor.

    Args:
        rows: token ids; `[model.encoder().prompt(text) for text in prompts]` ends where the answer begins.
        position: at the last token, or the mean over all tokens but the first (a sink in many models).
    """
    base = model.base()
    sites = [Site(layer) for layer in range(len(blocks(base)))]
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    for chosen in by_length([len(row) for row in rows], batch_size):
        lengths = torch.tensor([len(rows[i]) for i in chosen])
        ids = torch.full((len(chosen), int(lengths.max())), model.pad_id)
        for at, i in enumerate(chosen):
            ids[at, : len(rows[i])] = torch.tensor(rows[i])
        mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
        with record(base, sites) as seen:
            base(ids.to(model.device), attention_mask=mask.long().to(model.device), use_cache=False, logits_to_keep=1)
        if position == "last":
            pooled = torch.stack([seen[site][torch.arange(len(chosen)), lengths - 1].float().cpu() for site in sites])
        else:
            inner = mask.clone()
            inner[:, 0] = lengths == 1  # a row of one token has nothing else
            weights = inner[:, :, None].float() / inner.sum(1)[:, None, None]
            pooled = torch.stack([(seen[site].float().cpu() * weights).sum(1) for site in sites])
        for at, i in enumerate(chosen):
            found[i] = pooled[:, at]
    return torch.stack(found, 1)


@dataclass(frozen=True)
class Probed:
    """What a probe said of each row, fitted on rows of other groups.

    Attributes:
        labels: [n] as given.
        classes: [classes] the labels that there are, sorted.
        probability: [n, classes].
    """

    labels: np.ndarray
    classes: np.ndarray
    probability: Float[np.ndarray, "n classes"]

    @property
    def predicted(self) -> np.ndarray:
        """[n] the most probable label of each row."""
        return self.classes[self.probability.argmax(1)]

    @property
    def accuracy(self) -> float:
        """Share of rows whose label was predicted."""
        return float((self.predicted == self.labels).mean())


def cross_validated(
    states: Float[Tensor, "n width"] | Float[np.ndarray, "n width"],
    labels: Sequence[int],
    groups: Sequence[Hashable] | None = None,
    *,
    folds: int = 5,
    strengths: Sequence[float] = (STRENGTH,),
    seed: int = 0,
) -> Probed:
    """Logistic regression on standardised states, each row predicted by a probe fitted on other folds.

    Args:
        states: one row of features an item.
        labels: integers.
        groups: items of one group (paraphrases of one fact, options of one question) always share a fold.
        folds: at most so many; fewer where a label has fewer rows (or there are fewer groups).
        strengths: inverse L2 strengths; with several, each fold chooses by inner folds of its own rows (four take
            thirteen times as long as one).
        seed: of the folds.

    Raises:
        InputError: fewer than two labels, or two groups, to tell apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.asarray(states, dtype=np.float64)
    target = np.asarray(labels, dtype=np.int64)
    names = {group: number for number, group in enumerate(dict.fromkeys(groups or range(len(target))))}
    group = np.asarray([names[one] for one in groups or range(len(target))])
    classes, counts = np.unique(target, return_counts=True)
    most = min(folds, int(counts.min()), len(names))
    if len(classes) < 2 or most < 2:
        counted = ", ".join(f"{label}: {count}" for label, count in zip(classes, counts, strict=True))
        raise InputError(
            f"a probe was asked for {len(target)} rows in {len(names)} groups (rows by label: {counted})",
            "give at least two labels, with two rows in different groups each",
        )
    probability = np.zeros((len(target), len(classes)))
    for fit, test in _folds(target, group, most, seed):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=strengths[0], max_iter=1000))
        if len(strengths) > 1:
            inner = _folds(target[fit], group[fit], min(most, INNER_FOLDS), seed)
            probe = GridSearchCV(probe, {"logisticregression__C": list(strengths)}, cv=inner)
        probe.fit(features[fit], target[fit])
        columns = np.searchsorted(classes, probe.classes_)  # a small fold may lack a label
        probability[np.ix_(test, columns)] = probe.predict_proba(features[test])
    return Probed(target, classes, probability)


def _folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows to predict, labels spread as evenly as whole groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(labels, labels, groups))
