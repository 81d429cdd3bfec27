"""NaLaFormer: Norm-Aware Linear Attention for Transformer Models.

arXiv 2506.21137, 2025-06; ICML 2026; v3 retitled Norm x Direction.

Measured here: (1) the entropy of attention over the query's norm, on random queries and keys; (2) the linear form
against the explicit one, causal and not; (3) recall: one layer reads 64 pairs of a key and a value and is asked for all
of them; the arms differ in the attention alone. Full scale in the paper: ImageNet-1K, ADE20K, language models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from letheon.attend.linear import attention_entropy, elu_features, linear_attention, linear_weights, relu_features
from letheon.attend.nalaformer import key_features, nala_attention, nala_weights, query_features
from letheon.papers.common.classify import accuracy, fit
from letheon.papers.common.networks import seeded
from letheon.papers.kit.figures import lines
from letheon.papers.kit.findings import Findings, mean
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.outcome import Scale

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

NORMS = tuple(2.0**i for i in range(-3, 5))  # 1/8 to 16
# Entropies, in nats: a fall counts from 0.01, and float64 rounding stays far below 1e-6.
FALL, NOTHING = 0.01, 1e-6
ROUNDING = 1e-5
# Recall: 64 of 256 keys with one of 64 values each, width 64, 4 heads.
KEYS, VALUES, PAIRS, WIDTH, HEADS = 256, 64, 64, 64, 4
BATCH, RATE, TESTED = 64, 3e-3, 500
STEPS = {"fast": 300, "full": 1500}
# "Loses the gain": less than half of it is left.
LEFT = 0.5
FROZEN = ("power frozen at 3", "power frozen at 4.5")
PRIMARY = (
    "fall of entropy, softmax",
    "fall of entropy, norm-aware",
    "recall, norm-aware minus relu",
    *(f"share of the gain left, {name}" for name in FROZEN),
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Measure entropies and both forms in seconds, and recall in about 7 s per seed and arm."""
    found.baselines += [
        "softmax attention",
        "linear attention with ReLU and with elu + 1",
        "the power frozen at 3 and 4.5",
    ]
    curves = [entropies(seed) for seed in scale.seeds]
    gaps = [largest_gap(seed) for seed in scale.seeds]
    steps = STEPS[scale.name]
    recalls = run_arms(lambda attend, seed: {"recall": recall(attend, seed, steps)}, arms(), scale.seeds)
    judge(curves, gaps, recalls, found)
    words = "Mean entropy of attention to 256 random keys over the norm of the query, by feature map"
    first = {name: list(zip(NORMS, values, strict=True)) for name, values in curves[0].items()}
    found.figures["entropy"] = lines(first, "norm of the query", "entropy in nats", words, log=True)
    found.rows += [
        {"seed": seed, "attention": name, "recall": recalls.arms[name][i]["recall"]}
        for i, seed in enumerate(scale.seeds)
        for name in recalls.arms
    ]


# 1. Entropy over the norm, and 2. the two forms


def weightings() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The weights [..., n_queries, n_keys] of each kind of attention."""
    return {
        "softmax": lambda q, k: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1),
        "norm-aware": partial(nala_weights, eps=0.0),
        "relu": lambda q, k: linear_weights(relu_features(q), relu_features(k), eps=0.0),
        "elu + 1": lambda q, k: linear_weights(elu_features(q), elu_features(k), eps=0.0),
    }


def entropies(seed: int, queries: int = 64, keys: int = 256, width: int = 32) -> dict[str, list[float]]:
    """Mean entropy (nats) at each of `NORMS`, with the same query directions and keys."""
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, 1, n, width, generator=generator, dtype=torch.float64) for n in (queries, keys))
    q = q / q.norm(dim=-1, keepdim=True)
    return {
        name: [float(attention_entropy(weights(norm * q, k)).mean()) for norm in NORMS]
        for name, weights in weightings().items()
    }


def largest_gap(seed: int, n: int = 500) -> float:
    """Largest difference of the linear and the explicit form in float32, causal and not."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 4, n, 32, generator=generator) for _ in range(3))
    pairs = [(nala_attention(q, k, v, causal=c), nala_weights(q, k, causal=c) @ v) for c in (False, True)]
    return max(float((linear - explicit).abs().max()) for linear, explicit in pairs)


# 3. Recall


def arms() -> dict[str, Attend]:
    """The attention of each arm; the trained layer is otherwise the same."""

    def mapped(of_query: Callable[[Tensor], Tensor], of_key: Callable[[Tensor], Tensor]) -> Attend:
        return lambda q, k, v: linear_attention(of_query(q), of_key(k), v)

    def positive(features: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: features(x).chunk(2, -1)[0]

    return {
        "softmax": scaled_dot_product_attention,
        "relu": mapped(relu_features, relu_features),
        "elu + 1": mapped(elu_features, elu_features),
        "norm-aware": nala_attention,
        FROZEN[0]: partial(nala_attention, power=6.0, norm_scale=0.0),
        FROZEN[1]: partial(nala_attention, power=9.0, norm_scale=0.0),
        "norm over 4": partial(nala_attention, norm_scale=0.25),  # 1/√d: out of the range where tanh saturates
        "positive half only": mapped(positive(query_features), positive(key_features)),
    }


def recall(attend: Attend, seed: int, steps: int) -> float:
    """Share of right values after training one layer with this attention."""
    model = seeded(lambda: _layer(attend), seed)
    generator = torch.Generator().manual_seed(seed)
    fit(model, lambda: questions(BATCH, generator), steps=steps, rate=RATE)
    inputs, wanted = questions(TESTED, torch.Generator().manual_seed(10**6 + seed))
    return accuracy(model, inputs, wanted)


def questions(n: int, generator: Any) -> tuple[tuple[Tensor, ...], Tensor]:
    """Draw n problems: (keys, values, the keys in another order), each [n, `PAIRS`], and the values in that order."""
    keys = torch.rand(n, KEYS, generator=generator).argsort(-1)[:, :PAIRS]
    values = torch.randint(VALUES, (n, PAIRS), generator=generator)
    order = torch.rand(n, PAIRS, generator=generator).argsort(-1)
    return (keys, values, keys.gather(1, order)), values.gather(1, order)


def _layer(attend: Attend) -> nn.Module:
    """Embeddings, one layer of attention from questions to pairs, logits of the values."""

    class Recall(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.keys, self.values = nn.Embedding(KEYS, WIDTH), nn.Embedding(VALUES, WIDTH)
            self.norm = nn.LayerNorm(WIDTH)
            self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
            self.out = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, VALUES))

        def forward(self, keys: Tensor, values: Tensor, asked: Tensor) -> Tensor:
            q = self.q(self.norm(self.keys(asked)))
            k, v = self.kv(self.norm(self.keys(keys) + self.values(values))).chunk(2, -1)
            by_head = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
            return self.out(attend(*by_head).transpose(1, 2).flatten(2))

    return Recall()


# The verdict


def judge(
    curves: Sequence[Mapping[str, Sequence[float]]], gaps: Sequence[float], recalls: Results, found: Findings
) -> None:
    """Decide on the fall of entropy, the equality of both forms, and recall with and without the norm-aware power."""
    falls = {name: [curve[name][0] - curve[name][-1] for curve in curves] for name in curves[0]}
    for name in ("softmax", "norm-aware"):
        found.decide(f"fall of entropy, {name}", falls[name], above=FALL)
    still = max(map(abs, falls["relu"]))
    found.check("entropy, relu", still < NOTHING)
    found.check("linear form equals explicit", max(gaps) < ROUNDING)
    found.decide("recall, norm-aware minus relu", recalls.pairs("recall", "norm-aware", "relu"), above=0.0)
    for name in FROZEN:
        found.decide(f"share of the gain left, {name}", _gain_left(recalls, name), below=LEFT, gaps=True)
    for name in (*FROZEN, "norm over 4", "positive half only", "softmax"):
        found.report(f"recall, norm-aware minus {name}", recalls.pairs("recall", "norm-aware", name), above=0.0)
    found.measured |= {
        "change of entropy, relu, largest": still,
        "fall of entropy, elu + 1": mean(falls["elu + 1"]),
        "largest difference of the forms": max(gaps),
        "recall": {name: mean(recalls.column(name, "recall")) for name in recalls.arms},
    }


def _gain_left(recalls: Results, frozen: str) -> list[float | None]:
    """Share of the gain over ReLU that is left with a frozen power, per seed; None where there is no gain."""
    columns = (recalls.column(name, "recall") for name in (frozen, "relu", "norm-aware"))
    return [
        (kept - start) / (full - start) if full > start else None for kept, start, full in zip(*columns, strict=True)
    ]
