"""Dense attention with its log-sum-exp, forward and backward, by a fused kernel where torch has one.

The backward pass takes the output and log-sum-exp of the *whole* row, of which the given keys may be a part:
exp(score - lse) are then the weights within the whole, and the gradients are exact for that part.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "batch heads queries d"]
Keys = Float[Tensor, "batch heads keys d"]
Mask = Float[Tensor, "batch heads one keys"]  # added to the scores of every query
Normaliser = Float[Tensor, "batch heads queries"]

_ON_CPU = "_scaled_dot_product_flash_attention_for_cpu"
_ON_GPU = "_scaled_dot_product_efficient_attention"
# The GPU kernel needs rows of a bias aligned to 16 elements, and pads the log-sum-exp to multiples of 32 queries.
_ALIGNED, _PADDED = 16, 32


class Gradients(NamedTuple):
    """Gradients of the loss with respect to queries, keys and values."""

    queries: Tensor
    keys: Tensor
    values: Tensor


def attend(q: Rows, k: Keys, v: Keys, mask: Mask | None, causal: bool, scale: float) -> tuple[Rows, Normaliser]:
    """Return softmax(scale q kᵀ + mask) v and the log of its denominator (float32, or float64 for float64)."""
    kernel = _kernel(q, k, mask)
    if kernel == _ON_CPU:
        return getattr(torch.ops.aten, _ON_CPU)(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
    if kernel == _ON_GPU:
        out, lse, *_ = getattr(torch.ops.aten, _ON_GPU)(q, k, v, _bias(q, k, mask), True, 0.0, causal, scale=scale)
        return out, lse[..., : q.shape[2]]
    scores = _scores(q, k, mask, causal, scale)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(v.dtype) @ v, lse


def attend_backward(
    grad: Rows, q: Rows, k: Keys, v: Keys, out: Rows, lse: Normaliser, mask: Mask | None, causal: bool, scale: float
) -> Gradients:
    """Return gradients from the output's gradient `grad`; `out` and `lse` belong to the whole rows."""
    kernel = _kernel(q, k, mask)
    if kernel == _ON_CPU:
        backward = getattr(torch.ops.aten, _ON_CPU + "_backward")
        return Gradients(*backward(grad, q, k, v, out, lse, 0.0, causal, attn_mask=mask, scale=scale))
    if kernel == _ON_GPU:
        backward = getattr(torch.ops.aten, _ON_GPU + "_backward")
        short = -q.shape[2] % _PADDED
        lse = torch.nn.functional.pad(lse, (0, short), value=torch.inf)
        none = torch.zeros((), dtype=torch.int64, device=q.device)  # the state of a dropout that is off
        wanted = [True, True, True, False]
        found = backward(grad, q, k, v, _bias(q, k, mask), out, lse, none, none, 0.0, wanted, causal, scale=scale)
        return Gradients(*found[:3])
    weights = (_scores(q, k, mask, causal, scale) - lse[..., None]).exp()
    along = (grad * out).sum(-1, keepdim=True)
    by_score = (weights * (grad @ v.mT - along)).to(q.dtype)
    return Gradients(scale * by_score @ k, scale * by_score.mT @ q, weights.to(grad.dtype).mT @ grad)


def _kernel(q: Tensor, k: Tensor, mask: Tensor | None) -> str:
    """Return the name of the kernel for these tensors, or an empty string."""
    name = {"cpu": _ON_CPU, "cuda": _ON_GPU}.get(q.device.type, "")
    if not name or not hasattr(torch.ops.aten, name + "_backward"):
        return ""
    if name == _ON_GPU and (q.dtype == torch.float64 or (mask is not None and k.shape[2] % _ALIGNED)):
        return ""
    return name


def _bias(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.to(q.dtype).expand(*q.shape[:3], k.shape[2])


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """Return scores [batch, heads, queries, keys], in float32 at least."""
    scores = (q @ k.mT).to(torch.promote_types(q.dtype, torch.float32)) * scale
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    return scores if mask is None else scores + mask
