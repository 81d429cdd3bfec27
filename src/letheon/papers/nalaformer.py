"""NaLaFormer: Norm-Aware Linear Attention for Transformer Models.

arXiv 2506.21137, 2025-06; ICML 2026; v3 retitled Norm x Direction.

Measured here: (1) the entropy of attention over the query's norm, on random queries and keys; (2) the linear form
against the explicit one, causal and not; (3) recall: one layer reads 64 pairs of a key and a value and is asked for all
of them, trained with nothing but the attention changed. Full scale in the paper: ImageNet-1K, ADE20K, language models.
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
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common.classify import accuracy, fit
from letheon.papers.common.figures import lines
from letheon.papers.common.networks import seeded
from letheon.papers.outcome import Claim, Findings, judge_pairs, judge_values, mean

Attend = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]

NORMS = tuple(2.0**i for i in range(-3, 5))  # 1/8 to 16
# Entropies, in nats: a fall counts from a hundredth on, and rounding in float64 stays far below a millionth.
FALL, NOTHING = 0.01, 1e-6
ROUNDING = 1e-5
# Recall: 64 of 256 keys with one of 64 values each, width 64 in 4 heads
KEYS, VALUES, PAIRS, WIDTH, HEADS = 256, 64, 64, 64, 4
BATCH, RATE, TESTED = 64, 3e-3, 500
STEPS = {"fast": 300, "full": 1500}
# "Loses the gain": less than half of it is left
LEFT = 0.5
FROZEN = ("power frozen at 3", "power frozen at 4.5")
CLAIM = (
    "between query norms 1/8 and 16 the mean entropy of the weights falls by more than 0.01 nats for norm-aware as for "
    "softmax attention, and changes by less than 1e-6 for ReLU linear attention; linear and explicit form differ by "
    "less than 1e-5; recall of 64 pairs is above that of ReLU linear attention; with the power frozen less than half "
    "of that gain is left"
)


def reproduce(scale: Scale) -> Outcome:
    """Run the claim: seconds for entropies and forms, about 7 s for each of eight trained arms and a seed."""

    baselines = ["softmax attention", "linear attention with ReLU and with elu + 1", "the power frozen at 3 and 4.5"]
    claim = Claim("nalaformer", CLAIM, baselines)
    curves = {seed: entropies(seed) for seed in scale.seeds}
    gaps = [largest_gap(seed) for seed in scale.seeds]
    steps = STEPS[scale.name]
    recalls = {seed: {name: recall(attend, seed, steps) for name, attend in arms().items()} for seed in scale.seeds}
    words = "Mean entropy of attention to 256 random keys over the norm of the query, by feature map"
    first = {name: list(zip(NORMS, values, strict=True)) for name, values in curves[scale.seeds[0]].items()}
    figures = {"entropy": lines(first, "norm of the query", "entropy in nats", words, log=True)}
    rows = [
        {"seed": seed, "attention": name, "recall": value}
        for seed, found in recalls.items()
        for name, value in found.items()
    ]
    return claim.outcome(judged(curves, gaps, recalls), scale.seeds, figures, rows)


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
    """Mean entropy (nats) at each of `NORMS`, for the same directions and keys."""

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
    """Attention by name; everything else of the trained layer is the same."""

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
    """Share of the values that a trained layer gives for the keys it is asked."""

    model = seeded(lambda: _layer(attend), seed)
    generator = torch.Generator().manual_seed(seed)
    fit(model, lambda: questions(BATCH, generator), steps=steps, rate=RATE)
    inputs, wanted = questions(TESTED, torch.Generator().manual_seed(10**6 + seed))
    return accuracy(model, inputs, wanted)


def questions(n: int, generator: Any) -> tuple[tuple[Tensor, ...], Tensor]:
    """n times `PAIRS` keys, their values, and all keys again in another order; and the values in that order."""

    keys = torch.rand(n, KEYS, generator=generator).argsort(-1)[:, :PAIRS]
    values = torch.randint(VALUES, (n, PAIRS), generator=generator)
    order = torch.rand(n, PAIRS, generator=generator).argsort(-1)
    return (keys, values, keys.gather(1, order)), values.gather(1, order)


def _layer(attend: Attend) -> Any:
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


def judged(
    curves: Mapping[int, Mapping[str, Sequence[float]]],
    gaps: Sequence[float],
    recalls: Mapping[int, Mapping[str, float]],
) -> Findings:
    """What was measured, its intervals, and a verdict for every part of the claim."""
    falls = {name: [one[name][0] - one[name][-1] for one in curves.values()] for name in next(iter(curves.values()))}
    recalled = {name: [one[name] for one in recalls.values()] for name in next(iter(recalls.values()))}
    ours, relu = recalled["norm-aware"], recalled["relu"]
    left = {
        name: [
            (kept - start) / (full - start) if full > start else None
            for kept, start, full in zip(recalled[name], relu, ours, strict=True)
        ]
        for name in FROZEN
    }
    found = Findings()
    found.decide(
        {
            "fall of entropy, softmax": judge_values(falls["softmax"], FALL, "above"),
            "fall of entropy, norm-aware": judge_values(falls["norm-aware"], FALL, "above"),
            "recall, norm-aware minus relu": judge_pairs(relu, ours, 0.0, "above"),
            **{f"share of the gain left, {name}": judge_values(left[name], LEFT, "below") for name in FROZEN},
        }
    )
    still = max(map(abs, falls["relu"]))
    found.parts["entropy, relu"] = "holds" if still < NOTHING else "fails"
    found.parts["linear form equals explicit"] = "holds" if max(gaps) < ROUNDING else "fails"
    others = {
        f"recall, norm-aware minus {name}": judge_pairs(recalled[name], ours, 0.0, "above")
        for name in (*FROZEN, "norm over 4", "positive half only", "softmax")
    }
    found.tell(others)
    found.beside = {name: one.verdict for name, one in others.items()}
    found.measured |= {
        "change of entropy, relu, largest": still,
        "fall of entropy, elu + 1": mean(falls["elu + 1"]),
        "largest difference of the forms": max(gaps),
        "recall": {name: mean(values) for name, values in recalled.items()},
    }
    return found
