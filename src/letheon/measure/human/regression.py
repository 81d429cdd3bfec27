"""Ridge regression of ratings on a model's representations: input embeddings, or the states after a layer.

A probe shows what the states contain, not what the model says. The regression's penalty and the layer are chosen on the
training words alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from letheon.core.model.models import LanguageModel
from letheon.probe.linear_probes import token_states

PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
INNER_FOLDS = 5


class Probed(NamedTuple):
    """Predictions for the test words, and the layer that was chosen (-1: input embeddings)."""

    predicted: Float[np.ndarray, " test"]
    layer: int


def ridge() -> Any:
    """Make a ridge regression on standardised features that chooses its penalty by leave-one-out errors."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES))


@torch.no_grad()
def mean_embeddings(model: LanguageModel, words: Sequence[str]) -> Float[np.ndarray, "words width"]:
    """Average the input embeddings of each word's tokens; they know spelling pieces and no context."""
    table = model.base().get_input_embeddings().weight
    rows = [table[model.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]].mean(0) for word in words]
    return torch.stack(rows).float().cpu().numpy()


def layer_states(model: LanguageModel, prompts: Sequence[str]) -> Float[np.ndarray, "layers words width"]:
    """Compute the last token's state after each block, where the model would begin its answer."""
    encoder = model.encoder()
    return token_states(model, [encoder.prompt(prompt) for prompt in prompts]).numpy()


def fit_and_predict(
    features: Float[np.ndarray, "words width"], ratings: Sequence[float], train: Sequence[int], test: Sequence[int]
) -> Float[np.ndarray, " test"]:
    """Fit on the training words and predict the test words."""
    targets = np.asarray(ratings)[list(train)]
    return np.asarray(ridge().fit(features[list(train)], targets).predict(features[list(test)]))


def probe_layers(
    states: Float[np.ndarray, "layers words width"], ratings: Sequence[float], train: Sequence[int], test: Sequence[int]
) -> Probed:
    """Choose the layer by cross-validation within the training words, then predict the test words from it."""
    from sklearn.model_selection import KFold, cross_val_score

    targets, rows = np.asarray(ratings)[list(train)], list(train)
    folds = KFold(min(INNER_FOLDS, len(rows)), shuffle=True, random_state=0)
    errors = [
        cross_val_score(ridge(), layer[rows], targets, cv=folds, scoring="neg_mean_squared_error").mean()
        for layer in states
    ]
    best = int(np.argmax(errors))
    return Probed(fit_and_predict(states[best], ratings, train, test), best)
