"""Understanding Transformers through the Lens of Pavlovian Conditioning.

arXiv 2508.08289, 2025-08; Qiao; v3 retitled Attention as Conditioning.

Measured here: random unit keys and values stored by the Hebbian rule of linear attention. How many pairs fit (on
average, and under the worst values for a key), how recall falls beyond that, whether attention and recursion agree,
what a delta rule adds, and how errors add up over chains of retrievals and are voted down by heads. The paper's own
proofs and experiments were not available; the formulas are derived in `attend/pavlovian`'s functions. Not measured:
in-context conditioning of trained models.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from letheon.attend.pavlovian import (
    Rule,
    chain_accuracy,
    condition_stepwise,
    effective_dimension,
    expected_fidelity,
    recall_fidelity,
    run_protocol,
    worst_case_capacity,
)
from letheon.core.errors import InputError
from letheon.core.model.attention import on_attention
from letheon.core.model.models import load
from letheon.papers.common.data import data_folder
from letheon.papers.kit.findings import Columns, Findings, Pairs
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

WIDTHS = (16, 32, 64, 128, 256)  # d_k, and the width of the values
LOADS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16)  # pairs over d_k
FIDELITY = 0.9  # a memory is full when its mean cosine falls below
ERROR = 1.0  # the largest error that still counts as none: the length of a value
COLLAPSED, DISTANCE, ROUNDING = 0.3, 0.02, 1e-5
TRIALS, HOPS, PAIRS, HEADS, CHAINS = 40, 8, 32, (1, 3, 9), 60
DISTINCT, AGAIN, BLOCKED = 0.99, 200, 0.8  # the delta rule's cosine at half of d_k, its presentations; blocking
GET = "get alice.txt from the GitHub repository learntextvis/textkit"
PRIMARY = (
    *(f"exponent of average capacity, {side}" for side in ("above 0.9", "below 1.1")),
    *(f"exponent of error-free capacity, {side}" for side in ("above 0.4", "below 0.6")),
    "cosine at d_k/8 pairs",
    "cosine at 16 d_k pairs",
    "largest distance from the closed form",
    f"chain: hop {HOPS} minus hop 1, one head",
    f"chain at hop {HOPS}: nine heads minus one",
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Measure capacity, exactness, rules and chains; each seed draws its own keys and values."""
    found.baselines += ["the closed form of average recall", "the Hebbian recursion trial by trial", "one head", "Hebb"]
    seeds = {seed: measure(seed, TRIALS if scale.name == "fast" else 5 * TRIALS) for seed in scale.seeds}
    judge(list(seeds.values()), found)
    found.measured["effective dimension of SmolLM2's keys, of 64, median layer"] = real_keys(scale.device)
    found.figures |= figures(seeds[scale.seeds[0]])
    found.rows += [{"seed": seed, **one} for seed, one in seeds.items()]


def measure(seed: int, trials: int) -> dict[str, Any]:
    """All measurements of one seed, as plain numbers."""
    generator = torch.Generator().manual_seed(seed)
    recall = {
        d: {load: fidelity(d, max(1, round(load * d)), trials, generator) for load in LOADS if load * d >= 1}
        for d in WIDTHS
    }
    distances = [
        abs(cosine - expected_fidelity(max(1, round(load * d)), d))
        for d, curve in recall.items()
        for load, cosine in curve.items()
    ]
    half = unit(trials, 32, 64, generator), unit(trials, 32, 64, generator)
    return {
        "recall": recall,
        "average capacity": {d: crossing(d, curve) for d, curve in recall.items()},
        "error-free capacity": {d: error_free(d, trials, generator) for d in WIDTHS},
        "distance": max(distances),
        "rounding": rounding(generator),
        "delta at d_k/2": float(recall_fidelity(*half, Rule("delta"), AGAIN).mean()),
        "hebb at d_k/2": float(recall_fidelity(*half, Rule("hebb")).mean()),
        "blocking": {rule: blocking(Rule(rule)) for rule in ("hebb", "delta")},
        "chains": {h: chain_accuracy(HOPS, h, PAIRS, PAIRS, CHAINS, generator).tolist() for h in HEADS},
    }


def unit(rows: int, n: int, d: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors [rows, n, d]."""
    return torch.nn.functional.normalize(torch.randn(rows, n, d, generator=generator), dim=-1)


def fidelity(d: int, pairs: int, trials: int, generator: torch.Generator) -> float:
    """Mean cosine of recall over memories; large memories need fewer of them for the same precision."""
    memories = max(2, trials * WIDTHS[0] // d)
    keys, values = (unit(memories, pairs, d, generator) for _ in range(2))
    return float(recall_fidelity(keys, values, Rule("hebb")).mean())


def crossing(d: int, curve: Mapping[float, float]) -> float:
    """Number of further pairs at a mean cosine of 0.9, interpolated between two loads in the logarithm."""
    points = list(curve.items())
    for (left, high), (right, low) in pairwise(points):
        if high >= FIDELITY > low:
            share = (high - FIDELITY) / (high - low)
            return d * left * (right / left) ** share - 1
    return math.nan


def error_free(d: int, trials: int, generator: torch.Generator) -> float:
    """Mean number of further random keys before the worst values give some key an error of 1."""
    return statistics.mean(
        worst_case_capacity(keys, ERROR) - 1 for keys in unit(trials, 8 * math.isqrt(d), d, generator)
    )


def slope(by_width: Mapping[int, float]) -> float:
    """The exponent of d_k: the slope of a straight line through the logarithms."""
    return statistics.linear_regression(
        [math.log(d) for d in by_width], [math.log(pairs) for pairs in by_width.values()]
    ).slope


def rounding(generator: torch.Generator) -> float:
    """Largest difference between causal linear attention and the recursion, relative to the largest output."""
    q, k, v = (torch.randn(4, 512, 64, generator=generator) for _ in range(3))
    stepwise = condition_stepwise(k, v, q, Rule("hebb"))
    return float(((q @ k.mT).tril() @ v - stepwise).abs().max() / stepwise.abs().max())


def blocking(rule: Any) -> float:
    """1 - V_B after A+ and AB+, over V_B after AB+ alone; 1 if learning A first blocks all learning about B."""
    blocked = run_protocol("A+ x20; AB+ x20; test B", rule)["B"]
    return 1 - blocked / run_protocol("AB+ x20; test B", rule)["B"]


def real_keys(device: str) -> dict[str, float] | None:
    """Effective dimension of SmolLM2's keys on 512 tokens of prose, mean over heads and median over layers.

    Keys include rotary positions; `centred` is without their mean. None where the text is not available.
    """
    try:
        text = (data_folder("public_domain_text", GET) / "alice.txt").read_text(encoding="utf-8")[3000:8000]
    except InputError:
        return None
    model = load("smollm2", device=device)
    plain: list[float] = []
    centred: list[float] = []

    def see(_: int, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        plain.append(statistics.mean(effective_dimension(head) for head in k[0]))
        centred.append(statistics.mean(effective_dimension(head - head.mean(0)) for head in k[0]))

    with torch.inference_mode(), on_attention(model.base(), see):
        model.base()(torch.tensor([model.tokenizer(text)["input_ids"][:512]], device=device), use_cache=False)
    return {"plain": statistics.median(plain), "centred": statistics.median(centred)}


def judge(seeds: Sequence[Mapping[str, Any]], found: Findings) -> None:
    """Decide on the exponents of capacity, recall by load, exactness, the delta rule, and chains."""
    column = Columns(seeds)

    def loaded(load: float) -> list[float]:
        return [statistics.mean(curve[load] for curve in one["recall"].values()) for one in seeds]

    def last(heads: int) -> list[float]:
        return [one["chains"][heads][-1] for one in seeds]

    for kind, (low, high) in {"average": (0.9, 1.1), "error-free": (0.4, 0.6)}.items():
        exponents = [slope(one[f"{kind} capacity"]) for one in seeds]
        found.decide(f"exponent of {kind} capacity, above {low}", exponents, above=low)
        found.decide(f"exponent of {kind} capacity, below {high}", exponents, below=high)
    found.decide("cosine at d_k/8 pairs", loaded(1 / 8), above=FIDELITY)
    found.decide("cosine at 16 d_k pairs", loaded(16), below=COLLAPSED)
    found.decide("largest distance from the closed form", column("distance"), below=DISTANCE)
    found.check("attention equals the recursion", max(column("rounding")) < ROUNDING)
    # these follow from the rules: independent keys are recalled exactly, and the protocol of blocking draws nothing
    found.check(f"the delta rule recalls d_k/2 pairs at {DISTINCT}", min(column("delta at d_k/2")) > DISTINCT)
    found.check("blocking under the delta rule", min(one["blocking"]["delta"] for one in seeds) > BLOCKED)
    found.measured["delta rule at d_k/2 pairs"] = statistics.mean(column("delta at d_k/2"))
    found.check("no blocking under Hebb", max(one["blocking"]["hebb"] for one in seeds) < 1e-6)
    first = [one["chains"][1][0] for one in seeds]
    found.decide(f"chain: hop {HOPS} minus hop 1, one head", Pairs(first, last(1)), below=0.0)
    found.decide(f"chain at hop {HOPS}: nine heads minus one", Pairs(last(1), last(9)), above=0.0)
    found.measured["Hebb at d_k/2 pairs"] = statistics.mean(column("hebb at d_k/2"))
    for kind in ("average", "error-free"):
        found.measured[f"other pairs by d_k, {kind}"] = {
            d: statistics.mean(one[f"{kind} capacity"][d] for one in seeds) for d in WIDTHS
        }
    found.measured[f"chain at hop {HOPS} by heads"] = {h: statistics.mean(last(h)) for h in HEADS}
    independent = statistics.mean(p**HOPS for p in first)
    found.measured[f"chain at hop {HOPS}, one head, if hops fail independently"] = independent


def figures(one: Mapping[str, Any]) -> dict[str, str]:
    """Capacity over d_k, recall over the load, and chains over depth, of one seed."""
    capacity = {kind: list(one[f"{kind} capacity"].items()) for kind in ("average", "error-free")}
    narrowest, widest = WIDTHS[0], WIDTHS[-1]
    recall: dict[str, Sequence[tuple[float, float]]] = {
        f"d_k = {d}": list(one["recall"][d].items()) for d in (narrowest, widest)
    }
    recall["closed form"] = [(load, expected_fidelity(round(load * widest), widest)) for load in LOADS]
    chains = {f"{h} heads": list(enumerate(hops, 1)) for h, hops in one["chains"].items()}
    return {
        "capacity": lines(capacity, "d_k", "pairs", "Pairs that a Hebbian memory holds, over its key width", log=True),
        "recall": lines(recall, "pairs / d_k", "mean cosine", "Recall over the load of a Hebbian memory", log=True),
        "chains": lines(chains, "retrievals in a row", "share on track", "Chains of retrievals by number of heads"),
    }
