"""Errors of approximate attention on a model's own activations, and the perplexity of a text.

With random queries and keys every output is near the mean of all values, and errors mean little. Queries, keys and
values are therefore taken from a model that reads prose, and trivial approximations serve for comparison.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from letheon.core.model.attention import on_attention
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import score

# Causal attention: q [batch, heads, n, d], k and v with their own heads -> as q.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def relative_errors(
    out: Float[Tensor, "batch heads n d"], exact: Float[Tensor, "batch heads n d"]
) -> Float[Tensor, " heads"]:
    """Return ‖out - exact‖ / ‖exact‖ per head, in the Frobenius norm; an output of zeros has 1."""
    norms = [x.float().transpose(0, 1).flatten(1).norm(dim=1) for x in (out - exact, exact)]
    return norms[0] / norms[1]


def operator_errors(
    out: Float[Tensor, "1 heads n d"],
    exact: Float[Tensor, "1 heads n d"],
    v: Float[Tensor, "1 groups n d"],
    norms: Float[Tensor, " heads"],
) -> Float[Tensor, " heads"]:
    """Return ‖out - exact‖ / (‖D⁻¹A‖ ‖V‖) per head in the operator norm: what HyperAttention's guarantee bounds by ε.

    Args:
        norms: ‖D⁻¹A‖ per head, from `attention_norms`.
    """
    wrong, values = (torch.linalg.matrix_norm(x[0].float(), 2) for x in (out - exact, v))
    return wrong / (norms * values.repeat_interleave(len(wrong) // len(values)))


def attention_norms(
    q: Float[Tensor, "1 heads n d"], k: Float[Tensor, "1 groups n d"], causal: bool, passes: int = 12
) -> Float[Tensor, " heads"]:
    """Return ‖D⁻¹A‖ per head: the largest singular value of the attention weights, from below.

    Power iteration with d vectors at once. Products with the weights are attention with the vectors as values, and
    products with their transpose its gradient, so that no matrix [n, n] is made. n is at least d.
    """
    with torch.inference_mode(False), torch.enable_grad():
        q, k = q.detach().clone(), k.detach().repeat_interleave(q.shape[1] // k.shape[1], 1)
        x = torch.randn(q.shape, generator=torch.Generator().manual_seed(0)).to(q)
        for _ in range(passes):
            x = torch.linalg.qr(x).Q.contiguous().requires_grad_()
            seen = functional.scaled_dot_product_attention(q, k, x, is_causal=causal)
            (x,) = torch.autograd.grad(seen, x, seen.detach())
        return torch.linalg.matrix_norm(seen.detach()[0].float(), 2)


@contextmanager
def attention_errors(model: LanguageModel, contenders: Mapping[str, Attend]) -> Iterator[dict[str, list[Tensor]]]:
    """Within the block, record each contender's relative errors [heads] per layer; the model itself attends exactly."""
    found: dict[str, list[Tensor]] = {name: [] for name in contenders}

    def see(_: int, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        for name, attend in contenders.items():
            found[name].append(relative_errors(attend(q, k, v), out))

    with on_attention(model.base(), see):
        yield found


@torch.inference_mode()
def perplexity(model: LanguageModel, ids: Int[Tensor, " n"], every: int = 1, first: int = 1) -> float:
    """Return exp of the mean negative log-probability (nats) of a text's tokens `first`, `first + every`, ..."""
    ids = ids[None].to(model.device)
    labels = torch.full_like(ids, -100)
    labels[:, first::every] = ids[:, first::every]
    rows = torch.zeros(1, dtype=torch.long)
    batch = Batch(ids, labels, torch.ones_like(ids), rows, labels != -100)
    return math.exp(-float(score(model, batch).logp.mean()))


def mean_of_values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return the running mean of the values: attention with equal weights."""
    counts = torch.arange(1, v.shape[2] + 1, device=v.device)[:, None]
    return (v.float().cumsum(2) / counts).to(v.dtype).repeat_interleave(q.shape[1] // k.shape[1], 1)


def local_window(width: int, pinned: int = 0) -> Attend:
    """Return exact causal attention to the last `width` keys and to the first `pinned` keys."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n, group = q.shape[2], q.shape[1] // k.shape[1]
        blocks = -(-n // width)
        short = blocks * width - n
        k, v = (x.repeat_interleave(group, 1).flatten(0, 1) for x in (k, v))
        queries = functional.pad(q.flatten(0, 1), (0, 0, 0, short)).view(-1, blocks, width, q.shape[-1])
        row = torch.arange(blocks * width, device=q.device).view(blocks, width, 1)
        near = row[:, :1] - width + torch.arange(2 * width, device=q.device)
        seen = (near >= 0) & (near <= row) & (near > row - width)
        first = torch.arange(min(pinned, n), device=q.device).expand(blocks, 1, -1)
        mask = torch.cat([first <= row - width, seen], -1)
        keys, values = (
            torch.cat([x[:, None, : first.shape[-1]].expand(-1, blocks, -1, -1), _two_blocks(x, width, short)], 2)
            for x in (k, v)
        )
        out = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask[None])
        return out.flatten(1, 2)[:, :n].view_as(q)

    return attend


def window_pairs(n: int, width: int, pinned: int = 0) -> int:
    """Return the products of query and key of `local_window` for n tokens; the first tokens see less than a window."""
    width = min(width, n)
    pinned = min(pinned, n - width)
    return n * width - width * (width - 1) // 2 + (n - width) * pinned - pinned * (pinned - 1) // 2


def equal_width(pairs: int, n: int, pinned: int = 0) -> int:
    """Return the smallest width at which a `local_window` over n tokens computes `pairs` products or more."""
    return bisect_left(range(n), pairs, key=lambda width: window_pairs(n, width, pinned))


def _two_blocks(x: Tensor, width: int, short: int) -> Tensor:
    """[heads, n, d] -> [heads, blocks, 2 width, d]: join each block with the block before."""
    padded = functional.pad(x, (0, 0, width, short))
    return padded.unfold(1, 2 * width, width).transpose(2, 3)
