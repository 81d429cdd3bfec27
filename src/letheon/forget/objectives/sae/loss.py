"""The triplet loss between two prototypes, and a state's position between them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def distance(z: Float[Tensor, "*batch latents"], prototype: Float[Tensor, " latents"]) -> Float[Tensor, "*batch"]:
    """D: squared Euclidean distance."""
    return ((z - prototype) ** 2).sum(-1)


def triplet_loss(
    z: Float[Tensor, "mentions latents"],
    known: Float[Tensor, " latents"],
    unknown: Float[Tensor, " latents"],
    mu: float,
    margin: float,
) -> Float[Tensor, " mentions"]:
    """max(0, D(z, unknown) − mu·D(z, known) + margin·D(known, unknown)) / D(known, unknown) per mention [inferred].

    1 + margin at the known prototype, max(0, margin − mu) at the unknown one. With mu = 1 it is linear in z: only the
    direction from one prototype to the other counts. Below 1 it also pulls z's other directions to the prototypes, and
    is 0 within a ball around a point behind the unknown prototype; with margin = mu the ball's edge is that prototype.
    """
    unit = distance(known, unknown)
    return (distance(z, unknown) / unit - mu * distance(z, known) / unit + margin).relu()


def position(
    z: Float[Tensor, "*batch latents"], known: Float[Tensor, " latents"], unknown: Float[Tensor, " latents"]
) -> Float[Tensor, "*batch"]:
    """p = D(z, known) / (D(z, known) + D(z, unknown)): 0 at the known prototype, 1 at the unknown one."""
    away = distance(z, known)
    return away / (away + distance(z, unknown))
