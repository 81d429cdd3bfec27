"""Fast weights: a matrix that every token writes to and reads from, chunk by chunk, without n x n memory.

    u_t = write_t v_t - correct_t S_{t-1} k_t        S_t = keep S_{t-1} + u_t k_tᵀ        y_t = S_t q_t

With correct = 0 this is linear attention (keep < 1: with decay); with correct = write it is the delta rule. Inside a
chunk the u_t solve a unit triangular system, because S_{t-1} is a sum of earlier u_s k_sᵀ; between chunks S is carried.

Sources: Katharopoulos et al., arXiv 2006.16236 (linear attention); Schlag et al., arXiv 2102.11174 (delta rule as fast
weights); Yang et al., arXiv 2406.06484 (the chunked delta rule).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 64  # tokens solved together: memory is CHUNK x n


def fast_weights(
    q: Float[Tensor, "... n d_k"],
    k: Float[Tensor, "... n d_k"],
    v: Float[Tensor, "... n d_v"],
    write: float | Float[Tensor, "... n"] = 1.0,
    correct: float | Float[Tensor, "... n"] = 0.0,
    keep: float | Float[Tensor, ...] = 1.0,
    state: Float[Tensor, "... d_v d_k"] | None = None,
    *,
    read: str = "after",
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "... n d_v"], Float[Tensor, "... d_v d_k"]]:
    """What each query reads, and the matrix after the last token.

    Args:
        write, correct: one number a token, or one for all.
        keep: share of the matrix that stays from token to token; one number a batch element and head, or one for all.
        state: the matrix before the first token; zero if not given.
        read: `after` reads S_t q_t (a token sees itself), `before` reads S_{t-1} q_t.
    """
    state = v.new_zeros(*v.shape[:-2], v.shape[-1], k.shape[-1]) if state is None else state
    corrects = isinstance(correct, Tensor) or correct != 0.0
    kept, per_token = (torch.as_tensor(x, dtype=v.dtype, device=v.device) for x in (keep, write))
    per_token, correction = per_token.expand(v.shape[:-1]), torch.as_tensor(correct, dtype=v.dtype, device=v.device)
    correction = correction.expand(v.shape[:-1])
    outputs = []
    for start in range(0, v.shape[-2], chunk):
        part = slice(start, start + chunk)
        qs, ks, vs = q[..., part, :], k[..., part, :], per_token[..., part, None] * v[..., part, :]
        steps = torch.arange(vs.shape[-2], device=v.device)
        before = (kept[..., None] ** steps)[..., None]  # keep^(t-1)
        since = (kept[..., None, None] ** (steps[:, None] - steps - 1).clamp(min=0)).tril(-1)  # keep^(t-1-s), s < t
        if corrects:
            strength = correction[..., part, None]
            system = strength * since * (ks @ ks.mT) + torch.eye(len(steps), dtype=v.dtype, device=v.device)
            wanted = vs - strength * before * (ks @ state.mT)
            vs = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
        inside, above = since, before
        if read == "after":
            inside = kept[..., None, None] * since + torch.eye(len(steps), dtype=v.dtype, device=v.device)
            above = kept[..., None, None] * before
        outputs.append(above * (qs @ state.mT) + (inside * (qs @ ks.mT)) @ vs)
        last = (kept[..., None] ** (len(steps) - 1 - steps))[..., None]
        state = kept[..., None, None] ** len(steps) * state + (last * vs).mT @ ks
    return torch.cat(outputs, -2), state
