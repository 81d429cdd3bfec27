"""Linear attention: weights are products of features, and the cost is linear in the number of tokens.

out_i = Σ_j φ(q_i)·φ(k_j) v_j / (Σ_j φ(q_i)·φ(k_j) + n ε), with the sum over keys taken first. Causal: the sum runs
along the tokens, as fast weights that forget nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from letheon.attend.fast_weights import fast_weights
from letheon.core.errors import InputError

Queries = Float[Tensor, "batch heads n_queries features"]
Keys = Float[Tensor, "batch key_heads n_keys features"]
Values = Float[Tensor, "batch key_heads n_keys d"]


def linear_attention(
    phi_q: Queries,
    phi_k: Keys,
    v: Values,
    *,
    causal: bool = False,
    numerator: tuple[Queries, Keys] | None = None,
    eps: float = 1e-6,
) -> Float[Tensor, "batch heads n_queries d"]:
    """Attention with weights φ(q)·φ(k), divided by their sum.

    Args:
        phi_q, phi_k: non-negative features; with fewer key heads than heads, each serves a group of neighbours.
        causal: query i sees keys 0 to i; as many queries as keys.
        numerator: other features for the numerator, such as rotated features.
        eps: added to the *mean* weight, so that it acts alike at every length.

    Raises:
        InputError: heads are no multiple of key heads, or causal attention has unequal numbers of queries and keys.
    """
    if causal and phi_q.shape[-2] != phi_k.shape[-2]:
        found = f"{phi_q.shape[-2]} queries and {phi_k.shape[-2]} keys"
        raise InputError(f"causal with {found}", "give as many queries as keys")
    if not phi_k.shape[1] or phi_q.shape[1] % phi_k.shape[1]:
        found = f"{phi_q.shape[1]} query heads and {phi_k.shape[1]} key heads"
        raise InputError(found, "query heads must be a multiple of key heads")
    if numerator is None:
        both = _summed(phi_q, phi_k, functional.pad(v, (0, 1), value=1.0), causal)
        above, below = both[..., :-1], both[..., -1:]
    else:
        above = _summed(*numerator, v, causal)
        below = _summed(phi_q, phi_k, torch.ones_like(v[..., :1]), causal)
    return above / (below + eps * _seen(phi_q, phi_k, causal))


def linear_weights(
    phi_q: Queries, phi_k: Keys, *, causal: bool = False, eps: float = 1e-6
) -> Float[Tensor, "batch heads n_queries n_keys"]:
    """Return all weights, for inspection and for tests: n x n memory."""
    weights = phi_q @ phi_k.mT
    if causal:
        weights = weights.tril()
    return weights / (weights.sum(-1, keepdim=True) + eps * _seen(phi_q, phi_k, causal))


def attention_entropy(weights: Float[Tensor, "... n_keys"]) -> Float[Tensor, " ..."]:
    """Return the entropy of every row of weights (nats); log n where all keys weigh the same."""
    return -torch.special.xlogy(weights, weights).sum(-1)


def relu_features(x: Tensor) -> Tensor:
    """max(x, 0), the simplest map; a factor of the query cancels."""
    return x.relu()


def elu_features(x: Tensor) -> Tensor:
    """elu(x) + 1 (Katharopoulos et al., arXiv 2006.16236)."""
    return functional.elu(x) + 1


def _seen(phi_q: Tensor, phi_k: Tensor, causal: bool) -> Tensor | int:
    """Return the number of keys that a query sees: [n, 1] or one number."""
    n = phi_k.shape[-2]
    return torch.arange(1, n + 1, dtype=phi_q.dtype, device=phi_q.device)[:, None] if causal else n


def _summed(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Sum over all keys, or over keys up to the query; heads of a group share keys without repeating them."""
    q, k, v = q.reshape(len(q), k.shape[1], -1, *q.shape[2:]), k[:, :, None], v[:, :, None]
    out = fast_weights(q, k, v)[0] if causal else q @ (k.mT @ v)
    return out.flatten(1, 2)
