"""Prediction by the nearest class mean: unit features against the unit mean of each class (iCaRL, arXiv 1611.07725)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from letheon.retain.classes import ClassLearner
from letheon.retain.rows import TaskRows

UNSEEN = -1e4  # logit of a class without a mean; below minus any squared distance of unit vectors

Means = Float[Tensor, "classes width"]
Known = Bool[Tensor, " classes"]


def class_means(features: Float[Tensor, "n width"], labels: Int[Tensor, " n"], classes: int) -> tuple[Means, Known]:
    """Return the unit mean of each class's unit features, 0 where it has no row, and which classes have rows."""
    unit = functional.normalize(features, dim=1)
    sums = torch.zeros(classes, unit.shape[1]).to(unit).index_add(0, labels, unit)
    return functional.normalize(sums, dim=1), torch.bincount(labels, minlength=classes) > 0


def means_of(learner: ClassLearner, rows: TaskRows) -> tuple[Means, Known]:
    """Return `class_means` of rows, with the features of the model as it is."""
    features = learner.map_rows(rows, lambda part: learner.features(part.inputs))
    return class_means(features, rows.targets, learner.classes)


def nearest_mean(features: Float[Tensor, "n width"], means: Means, known: Known) -> Float[Tensor, "n classes"]:
    """Return minus the squared distances of unit features to unit means as logits; `UNSEEN` for unknown classes."""
    unit = functional.normalize(features, dim=1)
    return torch.where(known, -torch.cdist(unit, means).square(), UNSEEN)
