"""Understanding Transformers through the Lens of Pavlovian Conditioning.

arXiv 2508.08289, 2025-08; Qiao; v3 retitled Attention as Conditioning.

Measured here: random unit keys and values stored by the Hebbian rule of linear attention. How many pairs fit (on
average, and under values chosen against a key), how recall falls beyond, that attention and recursion agree, what a
delta rule adds, and how errors of retrieval after retrieval add up over depth and are voted away by heads. The paper's
own proofs and experiments weren't available; the formulas are derived in `attend/pavlovian`'s functions. Not measured:
conditioning in context by trained models.
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
from letheon.papers.catalogue import Outcome, Scale
from letheon.papers.common.data import data_folder
from letheon.papers.common.figures import lines
from letheon.papers.outcome import Claim, Findings, judge_pairs, judge_values

WIDTHS = (16, 32, 64, 128, 256)  # d_k; values are as wide
LOADS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16)  # pairs over d_k
FIDELITY = 0.9  # a memory is full when its mean cosine falls below
ERROR = 1.0  # the largest error that is still called none: as long as a value
COLLAPSED, DISTANCE, ROUNDING = 0.3, 0.02, 1e-5
TRIALS, HOPS, PAIRS, HEADS, CHAINS = 40, 8, 32, (1, 3, 9), 60
DISTINCT, AGAIN = 0.99, 200  # what the delta rule reaches at half of d_k, and presentations until then
GET = "get alice.txt from the GitHub repository learntextvis/textkit"
CLAIM = (
    "beside the pair that is asked for, those stored at mean cosine 0.9 grow as d_k to the power 1 (0.9 to 1.1), those "
    "stored without error under the worst values as its power 1/2 (0.4 to 0.6); the cosine follows "
    "1/sqrt(1 + (N-1)/d_k) to 0.02, is above 0.9 at d_k/8 pairs and below 0.3 at 16 d_k; causal linear attention is "
    "the Hebbian recursion to 1e-5 in float32; the delta rule holds d_k/2 pairs at 0.99 and shows blocking, Hebb does "
    "not; a chain of retrievals loses accuracy with depth, and nine voting heads lose less than one"
)


def reproduce(scale: Scale) -> Outcome:
    """Run the claim; seeds draw keys, values and chains."""
    baselines = ["the closed form of average recall", "the Hebbian recursion trial by trial", "one head", "Hebb"]
    claim = Claim("pavlovian", CLAIM, baselines)
    seeds = {seed: measure(seed, TRIALS if scale.name == "fast" else 5 * TRIALS) for seed in scale.seeds}
    found = judged(seeds)
    found.measured["effective dimension of SmolLM2's keys, of 64, median layer"] = real_keys(scale.device)
    rows = [{"seed": seed, **one} for seed, one in seeds.items()]
    return claim.outcome(found, scale.seeds, figures(seeds), rows)


def measure(seed: int, trials: int) -> dict[str, Any]:
    """Everything that one seed shows, as plain numbers."""

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
    """[rows, n, d] random directions."""

    return torch.nn.functional.normalize(torch.randn(rows, n, d, generator=generator), dim=-1)


def fidelity(d: int, pairs: int, trials: int, generator: torch.Generator) -> float:
    """Mean cosine of recall, over memories: few large ones are as exact as many small ones."""

    memories = max(2, trials * WIDTHS[0] // d)
    keys, values = (unit(memories, pairs, d, generator) for _ in range(2))
    return float(recall_fidelity(keys, values, Rule("hebb")).mean())


def crossing(d: int, curve: Mapping[float, float]) -> float:
    """How many pairs beside the one asked for leave a mean cosine of 0.9: linear in the logarithm between two loads."""
    points = list(curve.items())
    for (left, high), (right, low) in pairwise(points):
        if high >= FIDELITY > low:
            share = (high - FIDELITY) / (high - low)
            return d * left * (right / left) ** share - 1
    return math.nan


def error_free(d: int, trials: int, generator: torch.Generator) -> float:
    """Mean number of random keys beside the one asked for, before the worst values give some key an error of 1."""

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
    """1 - V_B after A+ then AB+, over V_B after AB+ alone: 1 if A, learned before, lets nothing be learned of B."""

    blocked = run_protocol("A+ x20; AB+ x20; test B", rule)["B"]
    return 1 - blocked / run_protocol("AB+ x20; test B", rule)["B"]


def real_keys(device: str) -> dict[str, float] | None:
    """Effective dimension of SmolLM2's keys on 512 tokens of prose, mean over heads, median over layers.

    None without the text. Keys are as they meet, after rotary positions; `centred`: without their mean.
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


def judged(seeds: Mapping[int, Mapping[str, Any]]) -> Findings:
    """What was measured, its intervals, and a verdict for every part of the claim."""
    all_of = list(seeds.values())

    def loaded(load: float) -> list[float]:
        return [statistics.mean(curve[load] for curve in one["recall"].values()) for one in all_of]

    def last(heads: int) -> list[float]:
        return [one["chains"][heads][-1] for one in all_of]

    average = [slope(one["average capacity"]) for one in all_of]
    worst = [slope(one["error-free capacity"]) for one in all_of]
    first = [one["chains"][1][0] for one in all_of]
    parts = {
        "exponent of average capacity, above 0.9": judge_values(average, 0.9, "above"),
        "exponent of average capacity, below 1.1": judge_values(average, 1.1, "below"),
        "exponent of error-free capacity, above 0.4": judge_values(worst, 0.4, "above"),
        "exponent of error-free capacity, below 0.6": judge_values(worst, 0.6, "below"),
        "cosine at d_k/8 pairs": judge_values(loaded(1 / 8), FIDELITY, "above"),
        "cosine at 16 d_k pairs": judge_values(loaded(16), COLLAPSED, "below"),
        "largest distance from the closed form": judge_values([one["distance"] for one in all_of], DISTANCE, "below"),
        "attention against recursion": judge_values([one["rounding"] for one in all_of], ROUNDING, "below"),
        "delta rule at d_k/2 pairs": judge_values([one["delta at d_k/2"] for one in all_of], DISTINCT, "above"),
        "blocking, delta rule": judge_values([one["blocking"]["delta"] for one in all_of], 0.8, "above"),
        "blocking, Hebb": judge_values([one["blocking"]["hebb"] for one in all_of], 1e-6, "below"),
        f"chain: hop {HOPS} minus hop 1, one head": judge_pairs(first, last(1), 0.0, "below"),
        f"chain at hop {HOPS}: nine heads minus one": judge_pairs(last(1), last(9), 0.0, "above"),
    }
    found = Findings()
    found.decide(parts)
    found.measured["Hebb at d_k/2 pairs"] = statistics.mean(one["hebb at d_k/2"] for one in all_of)
    for kind in ("average", "error-free"):
        found.measured[f"other pairs by d_k, {kind}"] = {
            d: statistics.mean(one[f"{kind} capacity"][d] for one in all_of) for d in WIDTHS
        }
    found.measured[f"chain at hop {HOPS} by heads"] = {h: statistics.mean(last(h)) for h in HEADS}
    independent = statistics.mean(p**HOPS for p in first)
    found.measured[f"chain at hop {HOPS}, one head, if hops fail independently"] = independent
    return found


def figures(found: Mapping[int, Mapping[str, Any]]) -> dict[str, str]:
    """Capacity over d_k, recall over the load, and chains over depth; of the first seed."""

    one = next(iter(found.values()))
    capacity = {kind: list(one[f"{kind} capacity"].items()) for kind in ("average", "error-free")}
    widest = WIDTHS[-1]
    recall: dict[str, Sequence[tuple[float, float]]] = {
        f"d_k = {d}": list(one["recall"][d].items()) for d in (WIDTHS[0], widest)
    }
    recall["closed form"] = [(load, expected_fidelity(round(load * widest), widest)) for load in LOADS]
    chains = {f"{h} heads": list(enumerate(hops, 1)) for h, hops in one["chains"].items()}
    return {
        "capacity": lines(capacity, "d_k", "pairs", "Pairs that a Hebbian memory holds, over its key width", log=True),
        "recall": lines(recall, "pairs / d_k", "mean cosine", "Recall over the load of a Hebbian memory", log=True),
        "chains": lines(chains, "retrievals in a row", "share on track", "Chains of retrievals by number of heads"),
    }
