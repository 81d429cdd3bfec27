"""NaLaFormer: Norm-Aware Linear Attention for Transformer Models.

arXiv 2506.21137, 2025-06; ICML 2026; v3 retitled Norm x Direction.

Measured here: a task that wants a sharpness of its own for each question. Keys are places on a sphere, each with a
value. A sharp question asks for the value of the nearest place, a broad one for the value that has most weight around.
One layer of one head of width 16 answers, where norms of queries stay in the range in which the power depends on them;
the arms differ in the attention alone. Each arm has its own rate, the norm-aware map its own scale of the norm, and the
frozen map its own power, from seeds that are not judged; the authors' scale of the norm, 1, is reported. That entropy
falls with the norm, and that the linear form equals the explicit one, holds by construction and is checked. Full scale
in the paper: ImageNet-1K, ADE20K, language models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot, scaled_dot_product_attention

from letheon.attend.linear import attention_entropy, elu_features, linear_attention, linear_weights, relu_features
from letheon.attend.nalaformer import key_features, nala_attention, nala_weights, query_features
from letheon.papers.common.classify import accuracy, fit
from letheon.papers.common.networks import seeded
from letheon.papers.kit.findings import Findings, mean
from letheon.papers.kit.results import Results, run_arms
from letheon.papers.kit.tuning import choose
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

NORMS = tuple(2.0**i for i in range(-3, 5))  # 1/8 to 16
# Entropies, in nats: a fall counts from 0.01, and float64 rounding stays far below 1e-6.
FALL, NOTHING = 0.01, 1e-6
ROUNDING = 1e-5
# Problems: places with one of `VALUES` values each, questions, and the concentration of the weight of a broad one.
PLACES, QUESTIONS, VALUES, BROAD = 16, 24, 6, 1.0
WIDTH, HIDDEN = 16, 64
BATCH, TESTED = 64, 250
STEPS = {"fast": 600, "full": 4000}
RATES = (3e-3, 6e-3)
FINER = (1e-3, 2e-3, 3e-3, 4.5e-3, 6e-3, 9e-3)  # of arms that have nothing else to choose: as many settings as ours
NORM_SCALES, POWERS = (0.25, 0.5, 1.0), (1.5, 3.0, 4.5, 6.0)  # 1: the authors'; 1.5 to 4.5: the norm-aware range
# Share of questions whose powers are taken as spread out, and how far apart they must lie: "the norm is in use".
SPREAD, APART = (0.1, 0.9), 0.3
SOFTMAX, RELU, ELU, HALF = "softmax", "relu", "elu + 1", "positive half only"
OURS, AUTHORS, FROZEN = "norm-aware", "norm scale 1", "frozen power"  # the authors' scale stands beside a chosen one
Setting = tuple[float, ...]  # the scale of the norm or the power, where an arm has one, and the learning rate
CANDIDATES: dict[str, list[Setting]] = {
    **{name: [(rate,) for rate in FINER] for name in (SOFTMAX, RELU, ELU, HALF)},
    OURS: list(product(NORM_SCALES, RATES)),
    AUTHORS: list(product((1.0,), RATES)),
    FROZEN: list(product(POWERS, RATES)),
}
PRIMARY = ("accuracy: norm-aware above relu", "accuracy: norm-aware above frozen power")


def reproduce(scale: Scale, found: Findings) -> None:
    """Check entropies and both forms in seconds, and compare the arms' accuracy."""
    found.baselines += ["softmax attention", "linear attention with ReLU and with elu + 1", "the best frozen power"]
    curves = [entropies(seed) for seed in scale.seeds]
    gaps = [largest_gap(seed) for seed in scale.seeds]
    steps = STEPS[scale.name]
    chosen = choose(found, CANDIDATES, lambda *run: float(measured(*run, steps)["accuracy"]))
    runs = {name: (name, setting) for name, setting in chosen.items()}
    results = run_arms(lambda run, seed: {"seed": seed, **measured(*run, seed, steps)}, runs, scale.seeds)
    check(curves, gaps, found)
    judge(results, found)
    words = "Mean entropy of attention to 256 random keys over the norm of the query, by feature map"
    first = {name: list(zip(NORMS, values, strict=True)) for name, values in curves[0].items()}
    found.figures["entropy"] = lines(first, "norm of the query", "entropy in nats", words, log=True)
    found.rows += results.rows()


# Entropy over the norm, and the two forms


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


# The task


def attention_of(arm: str, setting: Setting) -> Attend:
    """The attention of an arm; the trained layer is otherwise the same."""

    def mapped(of_query: Callable[[Tensor], Tensor], of_key: Callable[[Tensor], Tensor]) -> Attend:
        return lambda q, k, v: linear_attention(of_query(q), of_key(k), v)

    def positive(features: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: features(x).chunk(2, -1)[0]

    if arm in (OURS, AUTHORS):
        return partial(nala_attention, norm_scale=setting[0])
    if arm == FROZEN:  # without the norm the power is half of the option
        return partial(nala_attention, power=2 * setting[0], norm_scale=0.0)
    maps = {
        RELU: (relu_features, relu_features),
        ELU: (elu_features, elu_features),
        HALF: (positive(query_features), positive(key_features)),
    }
    return mapped(*maps[arm]) if arm in maps else scaled_dot_product_attention


@cache
def measured(arm: str, setting: Setting, seed: int, steps: int) -> dict[str, Any]:
    """Shares of right answers after training, of all, sharp and broad questions; and the spread of the power."""
    model = seeded(lambda: Reader(attention_of(arm, setting)), seed)
    generator = torch.Generator().manual_seed(seed)
    fit(model, lambda: questions(BATCH, generator), steps=steps, rate=setting[-1])
    inputs, wanted = questions(TESTED, torch.Generator().manual_seed(10**6 + seed))
    right: dict[str, Any] = {"accuracy": accuracy(model, inputs, wanted)}
    with torch.inference_mode():
        hits, kinds = model(*inputs).argmax(-1) == wanted, inputs[3]
        right |= {name: float(hits[kinds == kind].double().mean()) for kind, name in enumerate(("sharp", "broad"))}
        right["spread of the power"] = None
        if arm in (OURS, AUTHORS):
            powers = 3.0 * torch.tanh(setting[0] * model.queries(inputs[2], kinds).norm(dim=-1)).flatten()
            low, high = torch.quantile(powers, torch.tensor(SPREAD)).tolist()
            right["spread of the power"] = high - low
    return right


def questions(n: int, generator: Any) -> tuple[tuple[Tensor, ...], Tensor]:
    """Draw n problems: (places [n, PLACES, 3], values, places asked about, kinds), and the wanted values.

    Kind 0 wants the value of the nearest place, kind 1 the value with the largest sum of exp(BROAD cosine).
    """
    places = normalize(torch.randn(n, PLACES, 3, generator=generator), dim=-1)
    values = torch.randint(VALUES, (n, PLACES), generator=generator)
    asked = normalize(torch.randn(n, QUESTIONS, 3, generator=generator), dim=-1)
    kinds = torch.randint(2, (n, QUESTIONS), generator=generator)
    cosine = asked @ places.mT
    nearest = values.gather(1, cosine.argmax(-1))
    around = ((BROAD * cosine).exp() @ one_hot(values, VALUES).float()).argmax(-1)
    return (places, values, asked, kinds), torch.where(kinds == 0, nearest, around)


class Reader(nn.Module):
    """One head of attention from questions to places, and logits of the values."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        self.q = nn.Sequential(nn.Linear(5, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
        self.k = nn.Sequential(nn.Linear(3, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))
        self.v, self.out = nn.Embedding(VALUES, WIDTH), nn.Linear(WIDTH, VALUES)

    def queries(self, asked: Tensor, kinds: Tensor) -> Tensor:
        """The queries [n, questions, width]."""
        found: Tensor = self.q(torch.cat([asked, one_hot(kinds, 2).to(asked)], -1))
        return found

    def forward(self, places: Tensor, values: Tensor, asked: Tensor, kinds: Tensor) -> Tensor:
        """Return logits [n, questions, values]."""
        q, k, v = self.queries(asked, kinds), self.k(places), self.v(values)
        logits: Tensor = self.out(self.attend(q[:, None], k[:, None], v[:, None])[:, 0])
        return logits


# The verdict


def check(curves: Sequence[Mapping[str, Sequence[float]]], gaps: Sequence[float], found: Findings) -> None:
    """Check what holds by construction: entropies fall with the norm where they should, and both forms are equal."""
    falls = {name: [curve[name][0] - curve[name][-1] for curve in curves] for name in curves[0]}
    for name in ("softmax", OURS):
        found.check(f"entropy falls, {name}", min(falls[name]) > FALL)
    found.check("entropy stays, relu", max(map(abs, falls[RELU])) < NOTHING)
    found.check("linear form equals explicit", max(gaps) < ROUNDING)
    found.measured |= {f"fall of entropy, {name}": mean(values) for name, values in falls.items()}
    found.measured["largest difference of the forms"] = max(gaps)


def judge(results: Results, found: Findings) -> None:
    """Decide on accuracy with the norm-aware power, without it, and with ReLU; report the other maps and each kind."""
    for other in (RELU, FROZEN):
        results.decide(found, f"accuracy: norm-aware above {other}", "accuracy", OURS, other, above=0.0)
    for other in (ELU, HALF, SOFTMAX, AUTHORS):
        results.report(found, f"accuracy: norm-aware above {other}", "accuracy", OURS, other, above=0.0)
    for kind in ("sharp", "broad"):
        results.report(found, f"{kind} questions: norm-aware above {FROZEN}", kind, OURS, FROZEN, above=0.0)
    spread = mean(results.column(OURS, "spread of the power"))
    found.check("the norm is in use: powers differ between questions", spread is not None and spread > APART)
    found.measured["spread of the power"] = spread
    found.measured |= {
        kind: {name: mean(results.column(name, kind)) for name in results.arms}
        for kind in ("accuracy", "sharp", "broad")
    }
