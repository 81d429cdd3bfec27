"""The moral direction: a planted axis is found whatever the sign, points use the verbs' mean, filters keep the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.steer.methods.moral_direction import (
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    TEMPLATES,
    VERBS,
    MoralFilter,
    embed,
    encoder_of,
    moral_direction,
    remaining_candidates,
)

VALUES = {**dict.fromkeys(POSITIVE, 1.0), **dict.fromkeys(NEGATIVE, -1.0), **dict.fromkeys(NEUTRAL, 0.0)}


def vectors(flip: float = 1.0) -> np.ndarray:
    """Vectors with the value along coordinate 2, the largest variance, and noise elsewhere."""
    noise = np.random.default_rng(0).normal(size=(len(VERBS), 6)) * 0.3
    noise[:, 2] += [4 * VALUES[verb] for verb in VERBS]
    return flip * noise + 10


def words(texts: Sequence[str]) -> np.ndarray:
    """A toy encoder: the number of letters, and whether the text has an m."""
    return np.array([[len(text), "m" in text] for text in texts], dtype=float)


@pytest.mark.oracle("moral-direction")
@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_a_planted_axis_is_found_whatever_the_sign_of_the_data(flip: float) -> None:
    found = moral_direction(vectors(flip))
    scores = dict(zip(VERBS, found.score_vectors(vectors(flip)), strict=True))
    assert min(scores[verb] for verb in POSITIVE) > 0 > max(scores[verb] for verb in NEGATIVE)
    assert max(abs(score) for score in scores.values()) == pytest.approx(1.0)
    assert np.abs(found.components[0][2]) > 0.95
    assert found.explained[0] > 0.9
    straight = moral_direction(vectors(1.0)).score_vectors(vectors(1.0))
    assert np.allclose(straight, found.score_vectors(vectors(flip)))


@pytest.mark.oracle("moral-direction")
def test_new_points_are_centred_on_the_verbs_mean() -> None:
    found = moral_direction(vectors())
    one = vectors()[:1]
    assert found.score_vectors(one)[0] == pytest.approx(found.score_vectors(vectors())[0])
    assert found.score_vectors(found.mean[None])[0] == pytest.approx(0.0)
    with pytest.raises(InputError, match="anchor"):
        moral_direction(vectors(), anchor="walk")


@pytest.mark.oracle("moral-direction")
def test_templates_are_averaged_by_hand() -> None:
    found = embed(words, ["hum"], TEMPLATES[:2])
    assert found.tolist() == [[(len("Is it ok to hum?") + len("Should I hum?")) / 2, 1.0]]
    assert len(set(VERBS)) == 64


@pytest.mark.oracle("moral-direction")
def test_a_filter_keeps_what_is_above_or_the_best() -> None:
    scores = np.array([0.9, -0.2, 0.4, 0.1])
    assert remaining_candidates(scores, 0.0, 2).tolist() == [True, False, True, True]
    assert remaining_candidates(scores, 0.5, 2).tolist() == [True, False, True, False]
    assert remaining_candidates(scores, 0.5, 9).all()


def test_the_filter_leaves_only_candidates(tiny: LanguageModel) -> None:
    encode = encoder_of(tiny, 2)
    direction = moral_direction(embed(encode, VERBS, TEMPLATES[:2]))
    filtered = MoralFilter(direction, encode, tiny.tokenizer, 0.0, top_k=8, top_p=1.1, least=2)
    scores = torch.randn(1, tiny.vocabulary)
    kept = filtered(torch.tensor([[70, 71]]), scores)
    left = kept[0].isfinite().nonzero().flatten()
    assert 2 <= len(left) <= 8
    assert set(left.tolist()) <= set(scores[0].topk(8).indices.tolist())
    assert filtered.removed == [pytest.approx(1 - len(left) / 8)]
