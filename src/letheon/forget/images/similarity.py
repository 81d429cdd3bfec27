"""How alike two images are, without a learned model: the correlation of their pixels.

It compares layout and colour, and nothing that an image shows: a shifted or mirrored copy scores low, two pictures
of one layout score high. It is no copy detector such as SSCD, by which the literature tells replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity

SIDE = 64  # pixels to which larger images are averaged, so that fine noise counts little
Pictures = Sequence[Sequence[Tensor]]  # the images of each prompt, one per noise


def pixel_correlation(
    first: UInt8[Tensor, "height width channels"], second: UInt8[Tensor, "height width channels"]
) -> float | None:
    """Cosine of two images of one size, averaged to at most 64 x 64 pixels, each less its mean colour.

    None where an image is of one colour, as a blanked one is.
    """
    ours, theirs = _centred(first), _centred(second)
    if ours is None or theirs is None:
        return None
    return float(cosine_similarity(ours, theirs, dim=0))


def _centred(image: Tensor) -> Tensor | None:
    planes = image.permute(2, 0, 1).float()
    height, width = planes.shape[1:]
    planes = adaptive_avg_pool2d(planes, (min(height, SIDE), min(width, SIDE)))
    values = (planes - planes.mean((1, 2), keepdim=True)).flatten()
    return values if bool(values.abs().max() > 1e-3) else None


def between(first: Pictures, second: Pictures) -> list[float | None]:
    """Compare the images of two models per prompt, under equal noise; the mean over noises."""
    return [
        mean([pixel_correlation(*pair) for pair in zip(ours, theirs, strict=True)])
        for ours, theirs in zip(first, second, strict=True)
    ]


def between_noises(pictures: Pictures) -> list[float | None]:
    """Compare the images of each prompt under different noise."""
    return [mean([pixel_correlation(*pair) for pair in combinations(images, 2)]) for images in pictures]


def between_prompts(pictures: Pictures) -> list[float | None]:
    """Compare the first image of each prompt with those of all others."""
    firsts = [images[0] for images in pictures]
    return [mean([pixel_correlation(image, other) for other in firsts if other is not image]) for image in firsts]


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the numbers among the values; None if there are none."""
    numbers = [value for value in values if value is not None]
    return fmean(numbers) if numbers else None
