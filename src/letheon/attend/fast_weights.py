"""Fast weights: a matrix that every token writes to and reads from, computed in chunks without n x n memory.

    u_t = write_t v_t - correct_t S_{t-1} k_t        S_t = keep S_{t-1} + u_t k_tᵀ        y_t = S_t q_t

With correct = 0 this is linear attention (keep < 1: with decay); with correct = write it is the delta rule. Inside a
chunk the u_t solve a unit triangular system, because S_{t-1} is a sum of earlier u_s k_sᵀ. Their solution is linear in
the S before the chunk, so the work in all chunks is done at once, and S goes through each by one product and one sum.

Sources: Katharopoulos et al., arXiv 2006.16236 (linear attention); Schlag et al., arXiv 2102.11174 (delta rule as fast
weights); Yang et al., arXiv 2406.06484 (the chunked delta rule).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

CHUNK = 64  # tokens solved together, about the width of a head: memory is CHUNK x n


def fast_weights(
    q: Float[Tensor, "... n d_k"],
    k: Float[Tensor, "... n d_k"],
    v: Float[Tensor, "... n d_v"],
    write: float | Float[Tensor, "... n"] = 1.0,
    correct: float | Float[Tensor, "... n"] = 0.0,
    keep: float | Float[Tensor, " ..."] = 1.0,
    state: Float[Tensor, "... d_v d_k"] | None = None,
    *,
    read: str = "after",
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "... n d_v"], Float[Tensor, "... d_v d_k"]]:
    """Return the outputs, and the matrix after the last token; computed in float32 at least, the matrix's type.

    Args:
        write, correct: one number per token, or one for all.
        keep: share of the matrix that stays per token; one number per batch element and head, or one for all.
        state: the matrix before the first token; zero if not given.
        read: `after` reads S_t q_t (a token sees itself), `before` reads S_{t-1} q_t.
    """
    n, corrects, wanted = v.shape[-2], isinstance(correct, Tensor) or correct != 0.0, v.dtype
    exact, chunk = torch.promote_types(v.dtype, torch.float32), min(chunk, n)
    q, k, v = (x.to(exact) for x in (q, k, v))
    state = v.new_zeros(*v.shape[:-2], v.shape[-1], k.shape[-1]) if state is None else state.to(exact)
    kept, written, strength = (torch.as_tensor(x, dtype=exact, device=v.device) for x in (keep, write, correct))
    written, strength = (x.expand(v.shape[:-1])[..., None] for x in (written, strength))
    q, k, u, strength = (_chunks(x, chunk) for x in (q, k, written * v, strength))
    kept, step = kept[..., None, None, None], torch.arange(chunk, device=v.device)
    tokens = (n - torch.arange(0, n, chunk, device=v.device)).clamp(max=chunk)[:, None, None]  # the last has fewer
    before = kept ** step[:, None]  # keep^(t-1)
    since = (kept ** (step[:, None] - step - 1).clamp(min=0)).tril(-1)  # keep^(t-1-s), s < t
    left = kept ** (tokens - 1 - step[:, None]).clamp(min=0) * k  # keys, as the end of the chunk has them
    moves = kept**tokens * torch.eye(k.shape[-1], dtype=exact, device=v.device)
    unit = torch.eye(chunk, dtype=exact, device=v.device)
    if corrects:
        system = unit + strength * since * (k @ k.mT)
        both = torch.cat([u, strength * before * k], -1)
        both = torch.linalg.solve_triangular(system, both, upper=False, unitriangular=True)
        u, against = both[..., : v.shape[-1]], both[..., v.shape[-1] :]
        moves = moves - against.mT @ left
    if corrects or isinstance(keep, Tensor) or keep != 1.0:
        states = _carried(state, moves, u.mT @ left)
    else:
        states = torch.cat([state[..., None, :, :], u.mT @ left], -3).cumsum(-3)
    earlier = states[..., :-1, :, :].mT
    if corrects:
        u = u - against @ earlier
    inside, above = (kept * since + unit, kept * before) if read == "after" else (since, before)
    out = above * (q @ earlier) + (inside * (q @ k.mT)) @ u
    return out.flatten(-3, -2)[..., :n, :].to(wanted), states[..., -1, :, :]


def _carried(state: Tensor, moves: Tensor, added: Tensor) -> Tensor:
    """Return S before each chunk and after the last, S <- S moves + added: [..., chunks + 1, d_v, d_k]."""
    states = [state]
    for move, add in zip(moves.unbind(-3), added.unbind(-3), strict=True):
        states.append(states[-1] @ move + add)
    return torch.stack(states, -3)


def _chunks(x: Tensor, chunk: int) -> Tensor:
    """[..., n, d] -> [..., chunks, chunk, d], padded with zeros."""
    x = functional.pad(x, (0, 0, 0, -x.shape[-2] % chunk))
    return x.reshape(*x.shape[:-2], -1, chunk, x.shape[-1])
