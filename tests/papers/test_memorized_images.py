"""Paper `memorized-images`: the small diffusion model, what is measured of it, and how the parts make a verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from letheon.papers import catalogue
from letheon.papers import memorized_images as paper
from letheon.papers.common import digits_ddpm as ddpm
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import Scale, Verdict

PAPER = pytest.mark.oracle("memorized-images")


@pytest.fixture(scope="module")
def digits() -> ddpm.Digits:
    return ddpm.load_digits(seed=0, special=4)


@pytest.fixture(scope="module")
def model(digits: ddpm.Digits) -> ddpm.Denoiser:
    """Two hundred steps: enough to see the loss fall."""
    return ddpm.train(digits, seed=0, steps=200)


def test_special_images_stand_in_no_class(digits: ddpm.Digits) -> None:
    assert len(digits.images) == 1797 - 4
    assert digits.images.min() == -1
    assert digits.images.max() == 1
    assert digits.null == 14
    for image in digits.special:
        assert not bool((digits.images == image).all(1).any())


def test_the_signal_falls_from_all_to_nothing() -> None:
    signal = ddpm.kept_signal(torch.arange(ddpm.T))
    assert float(signal[0]) > 0.99
    assert float(signal[-1]) < 0.001
    assert bool((signal[1:] < signal[:-1]).all())


def test_training_lowers_the_loss_and_repeats_under_its_seed(digits: ddpm.Digits, model: ddpm.Denoiser) -> None:
    def loss(one: ddpm.Denoiser) -> float:
        prompt = ddpm.prompts_of(one, digits.labels[:200].tolist())
        generator = torch.Generator().manual_seed(0)
        return float(ddpm.denoising_loss(one, digits.images[:200], prompt, generator).detach())

    assert loss(model) < 0.5 < loss(ddpm.train(digits, seed=0, steps=1))
    again = [ddpm.train(digits, seed=3, steps=2).state_dict() for _ in range(2)]
    assert all(torch.equal(again[0][name], again[1][name]) for name in again[0])


@PAPER
def test_the_sampler_returns_the_image_that_a_perfect_denoiser_knows() -> None:
    """A denoiser that always knows the noise of one image leads to that image from any noise."""
    image = torch.rand(64, generator=torch.Generator().manual_seed(0)) * 2 - 1

    class Perfect(ddpm.Denoiser):
        def forward(self, x: torch.Tensor, t: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
            signal = ddpm.kept_signal(t)[:, None]
            return (x - signal.sqrt() * image) / (1 - signal).sqrt()

    found = ddpm.sample(Perfect(3), torch.zeros(2, 128), seed=0)
    assert torch.allclose(found, image.expand(2, -1), atol=1e-4)


@PAPER
def test_the_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    draw = np.random.default_rng(0).normal(size=(20000, 2))
    moved = draw * [1.0, 3.0] + [2.0, 0.0]
    # ‖(2, 0)‖² + (1 − 3)²; the same draws, so their sampling error enters with (3 − 1)² of 1 %
    assert ddpm.frechet_distance(draw, moved) == pytest.approx(4 + 4, rel=0.05)
    assert ddpm.frechet_distance(draw, draw) == pytest.approx(0, abs=1e-9)


def test_the_judge_knows_real_digits(digits: ddpm.Digits) -> None:
    judge = ddpm.Judge(digits)
    assert judge.accuracy(digits.images, digits.labels) > 0.95
    assert judge.frechet(digits.images) == pytest.approx(0, abs=1e-6)


def test_norms_are_of_both_guidance_branches_of_every_draw(model: ddpm.Denoiser) -> None:
    found = paper.norms(model, [10, 11])
    assert set(found.values) == {f"blocks.{i}.ff.net.2" for i in range(4)}
    assert found.rows["blocks.0.ff.net.2"] == [2 * 2 * paper.DRAWS] * 10
    assert found.values["blocks.0.ff.net.2"].shape == (10, 512)


# The verdict


def trial(seed: int, ours: float, random: float) -> paper.Trial:
    """Similarity falls to 0.6 under memorised masks and to 0.8 under random ones; accuracy falls at the given rates."""

    def measured(similarity: float, accuracy: float) -> paper.Measured:
        return paper.Measured(similarity, 1.0, accuracy, 1 - accuracy)

    arms = {}
    for i, s in enumerate(paper.SPARSITIES, start=1):
        share = i / len(paper.SPARSITIES)
        arms["memorised", s] = measured(1 - 0.4 * share, 1 - 0.4 * share * (ours + seed / 100))
        for arm in ("random", "classes"):
            arms[arm, s] = measured(1 - 0.2 * share, 1 - 0.2 * share * random)
    pairs = {(pair, s): 0.5 for pair in ("memorised, other prompts", "memorised, classes") for s in paper.SPARSITIES}
    searches = {(image, s): 0.5 for image in ("tied", "not tied") for s in paper.SPARSITIES}
    return paper.Trial(measured(1.0, 1.0), arms, pairs, dict.fromkeys(paper.SPARSITIES, 0.01), searches)


@pytest.mark.parametrize(("ours", "random", "verdict"), [(0.2, 0.5, "holds"), (0.5, 0.2, "fails")])
def test_arms_are_compared_at_equal_loss_of_similarity(ours: float, random: float, verdict: Verdict) -> None:
    """At equal density the memorised masks always lose more similarity; at equal similarity quality decides."""
    trials = {seed: trial(seed, ours, random) for seed in range(3)}
    found = Findings(primary=paper.PRIMARY)
    paper.judge(found, trials)
    assert found.measured["compared at similarity"] == 0.8
    assert found.verdict == verdict
    expected = -0.2 * (ours + 0.01 - random)
    assert found.measured[paper.PRIMARY[0]] == pytest.approx(expected)
    assert set(paper.figures(trials)) == {"trade-off", "overlap"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_claim_is_measured_on_digits() -> None:
    outcome = catalogue.paper("memorized-images").reproduce(Scale(seeds=(0, 1)))
    assert outcome.measured["before"]["replayed"] > 0.8
    assert len(outcome.rows) == 2 * (1 + 3 * len(paper.SPARSITIES))
