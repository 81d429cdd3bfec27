"""Linear probes: logistic regressions on hidden states, tested on rows on which they were not fitted.

A probe shows which information the states contain, not whether the model uses it. Compare it with two controls: the
same probe with shuffled labels (chance level with these folds), and a probe on the states of a model with random
weights (information in the input tokens alone).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import by_row, hooked_modules, record
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import stop_after
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.sampling import by_length
from letheon.core.scoring.answer_trees import branches, window
from letheon.core.scoring.token_trees import Tree, in_trees, of_like_length, packed

Position = Literal["last", "mean"]
# Inverse strength of the L2 penalty on standardised states, which often have more dimensions than rows.
STRENGTH = 0.1
INNER_FOLDS = 3


def token_states(
    model: LanguageModel, rows: Sequence[Sequence[int]], *, position: Position = "last", batch_size: int = 32
) -> Float[Tensor, "layers rows width"]:
    """Compute the residual stream after each block: one vector per layer and row, float32 on the CPU.

    Args:
        rows: token ids; `[model.encoder().prompt(text) for text in prompts]` ends before the answer.
        position: the last token, or the mean over all tokens but the first (an attention sink in many models).
    """
    sites = [Site(layer) for layer in range(len(blocks(model.base())))]
    return site_states(model, rows, sites, position=position, batch_size=batch_size)


@torch.inference_mode()
def site_states(
    model: LanguageModel,
    rows: Sequence[Sequence[int]],
    sites: Sequence[Site],
    *,
    position: Position = "last",
    batch_size: int = 32,
) -> Float[Tensor, "sites rows width"]:
    """Compute the activations at sites of equal width: one vector per site and row, float32 on the CPU.

    Args:
        rows, position: as of `token_states`.
    """
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    if branches(model, max(map(len, rows), default=0)) and not hooked_modules(model.base()):
        passes = _in_trees(model, rows, sites, position, batch_size)
    else:
        passes = _by_themselves(model, rows, sites, position, batch_size)
    for chosen, vectors in passes:
        for i, vector in zip(chosen, vectors.unbind(1), strict=True):
            found[i] = vector
    return torch.stack(found, 1)


# Numbers of rows, and their vectors, [sites, rows, width]
Passes = Iterator[tuple[list[int], Float[Tensor, "sites rows width"]]]


def _in_trees(
    model: LanguageModel, rows: Sequence[Sequence[int]], sites: Sequence[Site], position: Position, batch_size: int
) -> Passes:
    """Run rows that begin alike as a tree, in which every distinct token is run once."""
    base, most = model.base(), batch_size * max(map(len, rows))
    highest = max(site.layer % len(blocks(base)) for site in sites)
    groups = in_trees([(row, ()) for row in rows], 0, min(most, window(model)))
    trees = [Tree(rows[i] for i in group) for group in groups]
    for chosen in of_like_length([len(tree.ids) for tree in trees], most):
        with record(base, sites) as seen, stop_after(base, highest):
            base(**packed([trees[i] for i in chosen], model.pad_id, model.device), use_cache=False, logits_to_keep=1)
        longest = max(len(trees[i].ids) for i in chosen)
        whole = [by_row(seen[site], len(chosen), longest) for site in sites]
        states = torch.stack([_of_every_token(one).float() for one in whole])
        for at, i in enumerate(chosen):
            pooled = [_pooled(states[:, at, path], position) for path in trees[i].paths]
            yield groups[i], torch.stack(pooled, 1).cpu()


def _of_every_token(states: Tensor | None) -> Tensor:
    if states is None:
        raise InputError("a module does not see every token of a row", "choose another kind of site")
    return states


def _pooled(states: Float[Tensor, "sites length width"], position: Position) -> Float[Tensor, "sites width"]:
    """Return one row's vectors."""
    if position == "last":
        return states[:, -1]
    return states[:, min(1, states.shape[1] - 1) :].mean(1)


def _by_themselves(
    model: LanguageModel, rows: Sequence[Sequence[int]], sites: Sequence[Site], position: Position, batch_size: int
) -> Passes:
    """Run each row whole: no mask keeps the rows of a tree apart, or hooks count on plain rows."""
    base = model.base()
    for chosen in by_length([len(row) for row in rows], batch_size):
        ids, mask = right_padded(model, [rows[i] for i in chosen])
        with record(base, sites) as seen:
            base(ids, attention_mask=mask.long(), use_cache=False, logits_to_keep=1)
        weights = pooling_weights(mask, position)
        yield chosen, torch.stack([torch.einsum("rtw,rt->rw", seen[site].float(), weights).cpu() for site in sites])


def right_padded(
    model: LanguageModel, rows: Sequence[Sequence[int]]
) -> tuple[Int[Tensor, "rows longest"], Bool[Tensor, "rows longest"]]:
    """Pad token ids on the right; return them with the mask of the real tokens, on the model's device."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), model.pad_id)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row)
    mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
    return ids.to(model.device), mask.to(model.device)


def pooling_weights(mask: Bool[Tensor, "rows longest"], position: Position) -> Float[Tensor, "rows longest"]:
    """Return the weight of each token in its row's vector: 1 for the last one, or equal for all but the first.

    The only token of a row counts whichever it is.
    """
    lengths = mask.sum(1)
    if position == "last":
        return torch.nn.functional.one_hot(lengths - 1, mask.shape[1]).float()
    inner = mask.clone()
    inner[:, 0] = lengths == 1
    return inner.float() / inner.sum(1)[:, None]


@dataclass(frozen=True)
class Probed:
    """Cross-validated predictions of a probe.

    Attributes:
        labels: true label per row.
        classes: distinct labels, sorted.
        probability: predicted probability of each class per row, by a probe fitted on other groups.
    """

    labels: Int[np.ndarray, " n"]
    classes: Int[np.ndarray, " classes"]
    probability: Float[np.ndarray, "n classes"]

    @property
    def predicted(self) -> Int[np.ndarray, " n"]:
        """The most probable label of each row."""
        return self.classes[self.probability.argmax(1)]

    @property
    def accuracy(self) -> float:
        """Share of rows whose predicted label is right."""
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
    """Cross-validate a logistic regression on standardised states: other folds' probe predicts each row.

    Args:
        states: one feature vector per row.
        labels: one integer per row.
        groups: one group per row; rows of a group (paraphrases of a fact, options of a question) share a fold.
        folds: largest number of folds; fewer if a label has fewer rows or there are fewer groups.
        strengths: inverse L2 strengths; each fold selects one by inner folds (four take thirteen times as long as one).
        seed: seed of the folds.

    Raises:
        InputError: fewer than two labels, or fewer than two groups.
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
    """Split rows into folds to fit on and to predict, with labels as balanced as whole groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(labels, labels, groups))
