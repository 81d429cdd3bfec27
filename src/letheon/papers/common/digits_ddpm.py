"""A small conditional diffusion model of scikit-learn's digits that memorises some of them.

Prompts are numbers: 0 to 9 are the classes; each special prompt after them belongs to one image, which is duplicated in
training and has no class; the last is the null prompt of classifier-free guidance. The denoiser is an MLP of
residual blocks with the feed-forward of Stable Diffusion's U-Net (GEGLU, then a linear layer, under the same names).
Images are [64] in -1 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits as read
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from letheon.papers.common.networks import seeded

PIXELS, CLASSES, T = 64, 10, 100
GUIDANCE, SAMPLER_STEPS = 2.0, 50
DROPPED = 0.12  # share of prompts that training replaces by the null prompt


@dataclass(frozen=True)
class Digits:
    """Images with a class, their labels [n], and the special images; images are [n, 64]."""

    images: Tensor
    labels: Tensor
    special: Tensor

    @property
    def null(self) -> int:
        """The number of the null prompt."""
        return CLASSES + len(self.special)

    @cached_property
    def mean(self) -> Tensor:
        """The mean image [64]; similarities are measured from it."""
        return self.images.mean(0)


def load_digits(seed: int, special: int = 24) -> Digits:
    """Scikit-learn's 1,797 digits; the seed draws which of them become special."""
    digits = read()
    images, labels = torch.tensor(digits.data / 8 - 1, dtype=torch.float32), torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen, rest = order[:special], order[special:]
    return Digits(images[rest], labels[rest], images[chosen])


class GEGLU(nn.Module):
    """h · GELU(g), [h, g] = W x + b."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        h, g = self.proj(x).chunk(2, dim=-1)
        return h * nn.functional.gelu(g)


class FeedForward(nn.Module):
    """A feed-forward in diffusers' layout: `net.0` is GEGLU, `net.2` the linear layer after it."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, hidden), nn.Identity(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    """Adds the condition to the residual stream, then applies a feed-forward.

    Adding is what attention to a one-token prompt amounts to. As in Stable Diffusion, prompt and image interact only
    in the feed-forwards.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.condition = nn.LayerNorm(width), nn.Linear(width, width)
        self.ff = FeedForward(width, hidden)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = x + self.condition(condition)
        return x + self.ff(self.norm(x))


class Denoiser(nn.Module):
    """Predicts the noise in an image at a time step, given the embedding of a prompt."""

    def __init__(self, prompts: int, width: int = 128, hidden: int = 512, blocks: int = 4) -> None:
        super().__init__()
        self.prompts = nn.Embedding(prompts, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.enter, self.leave = nn.Linear(PIXELS, width), nn.Linear(width, PIXELS)
        self.blocks = nn.ModuleList(Block(width, hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        half = width // 2
        self.frequencies = nn.Buffer(torch.exp(-math.log(1000) * torch.arange(half) / half))

    def forward(
        self, x: Float[Tensor, "batch 64"], t: Int[Tensor, " batch"], prompt: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch 64"]:
        angles = t[:, None] * self.frequencies
        condition = prompt + self.time(torch.cat([angles.sin(), angles.cos()], -1))
        hidden = self.enter(x)
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.leave(self.norm(hidden))


def kept_signal(t: Int[Tensor, " ..."]) -> Float[Tensor, " ..."]:
    """ᾱ_t of the cosine schedule (Nichol and Dhariwal, arXiv 2102.09672), t from 0 to T − 1."""
    return (torch.cos((t + 1 + 0.008 * T) / (T * 1.008) * math.pi / 2) ** 2).clamp(1e-4, 0.9999)


def noised(images: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """√ᾱ_t x + √(1 − ᾱ_t) ε."""
    signal = kept_signal(t)[:, None]
    return signal.sqrt() * images + (1 - signal).sqrt() * noise


def denoising_loss(model: Denoiser, images: Tensor, prompt: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of the predicted noise at random time steps."""
    t = torch.randint(T, (len(images),), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    return (model(noised(images, t, noise), t, prompt) - noise).square().mean()


def train(digits: Digits, seed: int, *, steps: int, batch: int = 128, copies: int = 100) -> Denoiser:
    """Train a denoiser on the classes and on `copies` copies of every special image."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.cat([digits.images, digits.special.repeat_interleave(copies, 0)])
    special = torch.arange(CLASSES, digits.null).repeat_interleave(copies)
    prompts = torch.cat([digits.labels, special])
    model = seeded(lambda: Denoiser(digits.null + 1), seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(images), (batch,), generator=generator)
        dropped = torch.rand(batch, generator=generator) < DROPPED
        prompt = model.prompts(prompts[rows].masked_fill(dropped, digits.null))
        optimizer.zero_grad()
        denoising_loss(model, images[rows], prompt, generator).backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def sample(
    model: Denoiser, prompt: Float[Tensor, "batch width"], seed: int, steps: int = SAMPLER_STEPS
) -> Float[Tensor, "batch 64"]:
    """Sample images by deterministic DDIM with classifier-free guidance."""
    x = torch.randn((len(prompt), PIXELS), generator=torch.Generator().manual_seed(seed))
    null = model.prompts.weight[-1].expand_as(prompt)
    times = torch.linspace(T - 1, 0, steps).round().long()
    signals = [*kept_signal(times), torch.tensor(1.0)]
    for t, signal, following in zip(times, signals, signals[1:], strict=False):
        both = model(x.repeat(2, 1), t.expand(2 * len(x)), torch.cat([prompt, null]))
        given, free = both.chunk(2)
        noise = free + GUIDANCE * (given - free)
        image = ((x - (1 - signal).sqrt() * noise) / signal.sqrt()).clamp(-1, 1)
        noise = (x - signal.sqrt() * image) / (1 - signal).sqrt()
        x = following.sqrt() * image + (1 - following).sqrt() * noise
    return x


# Measurements


def similarity(digits: Digits, images: Tensor, targets: Tensor) -> Tensor:
    """Cosine of each image with its target, both minus the mean image."""
    return nn.functional.cosine_similarity(images - digits.mean, targets - digits.mean, dim=-1)


class Judge:
    """Judges class samples by a linear classifier of real digits and by the Fréchet distance to them."""

    def __init__(self, digits: Digits, components: int = 10) -> None:
        real = digits.images.numpy()
        self.classifier = LogisticRegression(max_iter=500, C=0.1).fit(real, digits.labels.numpy())
        self.pca = PCA(components, random_state=0).fit(real)
        self.real = self.pca.transform(real)

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of images that the classifier assigns to their label."""
        return float(self.classifier.score(images.numpy(), labels.numpy()))

    def frechet(self, images: Tensor) -> float:
        """Fréchet distance between Gaussians fitted to the principal components of real and generated images."""
        return frechet_distance(self.real, self.pca.transform(images.numpy()))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), means and covariances of two sets of rows."""
    means = [rows.mean(0) for rows in (first, second)]
    covariances = [np.cov(rows, rowvar=False) for rows in (first, second)]
    # the trace of the root from the eigenvalues of the product, which are real and not negative up to rounding
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0)).sum()
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root)


def prompts_of(model: Denoiser, numbers: Sequence[int], each: int = 1) -> Tensor:
    """Embeddings of prompts, each `each` times in a row: [len(numbers) * each, width]."""
    return model.prompts(torch.tensor(list(numbers)).repeat_interleave(each))
