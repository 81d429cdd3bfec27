"""Concept erasure: no linear probe reads the concept any more, and the states change as little as that allows."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from letheon.core.errors import InputError
from letheon.core.model.hooks import record
from letheon.core.model.models import load
from letheon.core.model.sites import Site
from letheon.probe.erasure import erased, fit_eraser


def states(n: int = 400, width: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated states in which a concept of two values moves the mean along one direction."""
    generator = torch.Generator().manual_seed(seed)
    concept = (torch.rand(n, generator=generator) > 0.4).double()
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, width, generator=generator, dtype=torch.float64) @ mix
    return noise + 2 * concept[:, None] * torch.randn(width, generator=generator, dtype=torch.float64), concept[:, None]


def cross_covariance(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


def test_after_erasure_states_and_concept_are_uncorrelated() -> None:
    x, z = states()
    before, after = cross_covariance(x, z).norm(), cross_covariance(fit_eraser(x, z)(x), z).norm()
    assert after < 1e-6 * before  # the eraser is kept in float32


def test_a_linear_probe_falls_to_chance() -> None:
    x, z = states()
    probe = LogisticRegression(max_iter=1000)
    labels = z[:, 0].numpy()
    chance = max(labels.mean(), 1 - labels.mean())
    assert probe.fit(x.numpy(), labels).score(x.numpy(), labels) > 0.85
    erased_states = fit_eraser(x, z)(x).numpy()
    assert probe.fit(erased_states, labels).score(erased_states, labels) <= chance + 0.01


def test_it_changes_states_less_than_the_orthogonal_projection_does() -> None:
    """The theorem: least mean squared change among affine maps that remove the correlation."""
    x, z = states()
    direction = cross_covariance(x, z)[:, 0]
    direction /= direction.norm()
    centred = x - x.mean(0)
    orthogonal = (centred @ direction)[:, None] * direction  # what projecting the covariance away changes
    ours = fit_eraser(x, z)(x) - x
    assert float((ours**2).sum()) < float((orthogonal**2).sum())


def test_erasing_twice_is_erasing_once_and_the_mean_stays() -> None:
    x, z = states()
    eraser = fit_eraser(x, z)
    once = eraser(x)
    assert torch.allclose(eraser(once), once, atol=1e-5)
    assert torch.allclose(once.mean(0), x.mean(0), atol=1e-5)


def test_directions_without_variance_do_no_harm() -> None:
    x, z = states()
    flat = torch.cat([x, torch.zeros(len(x), 3, dtype=x.dtype), x[:, :2]], 1)  # constant and repeated coordinates
    changed = fit_eraser(flat, z)(flat)
    assert bool(torch.isfinite(changed).all())
    assert cross_covariance(changed, z).norm() < 1e-5 * cross_covariance(flat, z).norm()


def test_a_concept_that_never_changes_is_refused() -> None:
    x, _ = states()
    with pytest.raises(InputError, match="one value only"):
        fit_eraser(x, torch.ones(len(x), 1))


def test_a_model_loses_the_concept_at_a_layer_and_has_it_back_afterwards() -> None:
    model = load("tiny", device="cpu")
    ids = torch.randint(3, 200, (6, 9), generator=torch.Generator().manual_seed(0))
    z = torch.tensor([0.0, 0, 0, 1, 1, 1]).double()[:, None]

    def last() -> torch.Tensor:
        with torch.no_grad(), record(model.base(), [Site(1)]) as found:
            model.base()(ids)
        return found[Site(1)][:, -1].double()

    before = last()
    with erased(model, 1, fit_eraser(before, z)):
        inside = last()
    assert cross_covariance(inside, z).norm() < 1e-4 * cross_covariance(before, z).norm()
    assert torch.equal(last(), before)
