"""HyperAttention: Long-context Attention in Near-Linear Time.

arXiv 2310.05869, 2023-10; ICLR 2024.

Measured here: (1) seconds of causal attention, one head of width 64 in float32, alternating with torch's fused exact
attention; (2) the relative error on SmolLM2's own queries, keys and values while it reads 8192 tokens of prose, and its
perplexity with every layer patched. Both have the same settings, `letheon.attend.hyper.MODEL`, which pins the beginning
of the text and the nearest keys (ours); the paper's plain variant stands beside. A window of the nearest keys with the
same pinned beginning, which computes as many pairs, is the baseline that hashing and sampling have to beat.
SmolLM2 reads 8192 tokens: only there do speed and error belong together. At longer lengths a smaller share of all pairs
is computed (it is given beside the ratios), the error is likely larger, and it is not known; the large ratios are
speed without an error. That the ratio grows with the length follows from the number of pairs, and decides nothing.
A text's output does not depend on the rows beside it in a batch (tested); it can depend on its own later tokens.
An earlier record decided on that growth, and had no window among what decides.
Full scale in the paper: chatglm2-6b-32k and phi-1.5 on LongBench, an A100. Its perplexities are 2^(loss in nats) and
not comparable with ours.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from letheon.attend.errors import Attend, attention_errors, equal_width, local_window, mean_of_values, perplexity
from letheon.attend.hyper import MODEL, PAPER, computed_pairs, hyper_attention
from letheon.attend.hyper.binding import use_hyper
from letheon.core.errors import InputError
from letheon.core.model.attention import switch
from letheon.core.model.models import LanguageModel, load
from letheon.papers.common.data import data_folder
from letheon.papers.kit.findings import Findings, Pairs
from letheon.papers.outcome import Scale
from letheon.report.plots import lines

LENGTHS = (8192, 32768, 131072)
WIDTH = 64
TOKENS = 8192  # SmolLM2's context
# Perplexity is read at every third token after the first leaf; attention within the leaf is exact anyway.
FIRST, EVERY = 2048, 3
FASTER, ERROR, PERPLEXITY = 5.0, 0.10, 1.10
WINDOW = "window and sinks"
BOOKS = ("alice.txt", "pride_and_prejudice.txt")
# Where passages begin, their distance and length (characters). Settings were chosen on Austen's first 60 000.
STARTS, APART, CHARACTERS = (3_000, 100_000), 45_000, 45_000
GET = "get alice.txt and pride_and_prejudice.txt from the GitHub repository learntextvis/textkit"
PRIMARY = (
    f"ratio at {LENGTHS[0]}",
    f"ratio at {LENGTHS[2]}",
    "error",
    f"error, minus {WINDOW}",
    "perplexity, patched over exact",
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Measure speed and error; each seed reads its own passage and draws its own samples."""
    folder = data_folder("public_domain_text", GET)
    found.baselines += ["torch.nn.functional.scaled_dot_product_attention (fused)"]
    found.baselines += [
        "the paper's plain variant, the mean of V, a local window of the same cost (also with sinks), blocks only"
    ]
    timed = {seed: {n: seconds(n, seed, scale.device) for n in LENGTHS} for seed in scale.seeds}
    model = load(scale.model, device=scale.device)
    if model.context_length < TOKENS:
        problem = f"{model.name} reads {model.context_length} tokens and the claim is about {TOKENS}"
        raise InputError(problem, "choose a model with a longer context")
    readings = {
        seed: read(model, passage(model, folder, seed), seed, beside=scale.name == "full" or seed == scale.seeds[0])
        for seed in scale.seeds
    }
    judge(timed, readings, found)
    found.figures |= figures(timed, readings)
    found.rows += rows(timed, readings)


# 1. Speed


class Seconds(NamedTuple):
    """Seconds of one call of each side, made in turn: exact, ours, and the window of as many pairs."""

    exact: float
    hyper: float
    window: float

    @property
    def ratio(self) -> float:
        """Seconds of exact attention over those of HyperAttention."""
        return self.exact / self.hyper


def seconds(n: int, seed: int, device: str = "cpu", causal: bool = True, heads: int = 1) -> Seconds:
    """Time all sides on the same random tensors; for short lengths the median of three runs."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(1, heads, n, WIDTH, generator=generator).to(device) for _ in range(3)]
    hyper = hyper_attend(seed, causal)

    def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    sides = (exact, hyper, window_of(n)) if causal else (exact, hyper)
    clocked: list[list[float]] = [[] for _ in sides]
    for _ in range(3 if n < LENGTHS[1] else 1):
        for side, attend in zip(clocked, sides, strict=True):
            side.append(_clocked(partial(attend, *tensors), device))
    medians = [statistics.median(side) for side in clocked]
    return Seconds(medians[0], medians[1], medians[2] if causal else math.nan)


def _clocked(work: Callable[[], object], device: str) -> float:
    with torch.inference_mode():
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def hyper_attend(seed: int, causal: bool = True, **changes: Any) -> Attend:
    """HyperAttention as a function of q, k and v, with `MODEL`'s settings and some changes."""
    settings = vars(replace(MODEL, **changes))

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return hyper_attention(q, k, v, causal=causal, generator=torch.Generator().manual_seed(seed), **settings)

    return attend


# 2. Error


class Reading(NamedTuple):
    """The measurements on one passage.

    Attributes:
        errors: contender -> relative error by layer, the median over heads.
        exact, patched: perplexities with exact attention and with every layer patched.
    """

    errors: dict[str, list[float]]
    exact: float
    patched: float


def passage(model: LanguageModel, folder: Path, seed: int) -> Tensor:
    """Tokens [n] of prose; seeds alternate between two books and proceed through them."""
    book, turn = seed % len(BOOKS), seed // len(BOOKS)
    text = (folder / BOOKS[book]).read_text(encoding="utf-8")
    start = STARTS[book] + turn * APART % (len(text) - STARTS[book] - CHARACTERS)
    ids = model.tokenizer(text[start : start + CHARACTERS])["input_ids"]
    return torch.tensor(ids[: min(TOKENS, model.context_length)])


def contenders(n: int, seed: int, beside: bool) -> dict[str, Attend]:
    """HyperAttention and the window; with `beside` also the plain variant and simple methods."""
    attends = {"hyper": hyper_attend(seed), WINDOW: window_of(n)}
    if beside:
        attends["plain variant"] = hyper_attend(seed, **vars(PAPER))
        attends["plain, our leaf"] = hyper_attend(seed, **vars(replace(PAPER, min_seq_len=MODEL.min_seq_len)))
        attends["mean of V"] = mean_of_values
        attends["window"] = local_window(equal_width(computed_pairs(n, True, MODEL), n))
        attends["blocks only"] = hyper_attend(seed, sample_size=0)
    return attends


def window_of(n: int) -> Attend:
    """A window with the pinned beginning that computes as many pairs as HyperAttention at a length."""
    return local_window(equal_width(computed_pairs(n, True, MODEL), n, MODEL.pin_first), MODEL.pin_first)


def read(
    model: LanguageModel, ids: Tensor, seed: int, beside: bool, others: Mapping[str, Attend] | None = None
) -> Reading:
    """Measure errors by layer while the model reads with exact attention, then its patched perplexity."""
    with attention_errors(model, contenders(len(ids), seed, beside) | dict(others or {})) as layers_of:
        exact = perplexity(model, ids, EVERY, FIRST)
    use_hyper(model)
    try:
        patched = perplexity(model, ids, EVERY, FIRST)
    finally:
        switch(model.base(), "sdpa")
    errors = {name: [float(heads.median()) for heads in layers] for name, layers in layers_of.items()}
    return Reading(errors, exact, patched)


def judge(timed: Mapping[int, Mapping[int, Seconds]], readings: Mapping[int, Reading], found: Findings) -> None:
    """Decide on the ratio where the error is known and at the longest text, on the error, and on perplexity."""
    short, middle, long = ([one[n].ratio for one in timed.values()] for n in LENGTHS)
    errors = [statistics.median(one.errors["hyper"]) for one in readings.values()]
    windows = [statistics.median(one.errors[WINDOW]) for one in readings.values()]
    worse = [one.patched / one.exact for one in readings.values()]
    found.decide(f"ratio at {LENGTHS[0]}", short, above=1.0)
    found.decide(f"ratio at {LENGTHS[2]}", long, above=FASTER)
    found.decide("error", errors, below=ERROR)
    found.decide(f"error, minus {WINDOW}", Pairs(windows, errors), below=0.0)
    found.report(f"ratio, {LENGTHS[1]} minus {LENGTHS[0]}", Pairs(short, middle), above=0.0)
    found.report(f"ratio, {LENGTHS[2]} minus {LENGTHS[1]}", Pairs(middle, long), above=0.0)
    found.decide("perplexity, patched over exact", worse, below=PERPLEXITY)
    first = next(iter(readings.values())).errors
    found.measured |= {
        f"ratio at {LENGTHS[1]}": statistics.mean(middle),
        "seconds of the window over ours": {
            n: statistics.mean(one[n].window / one[n].hyper for one in timed.values()) for n in LENGTHS
        },
        "share of causal pairs computed": {n: computed_pairs(n, True, MODEL) / (n * (n + 1) / 2) for n in LENGTHS},
        "error of each contender, first passage": {name: statistics.median(layers) for name, layers in first.items()},
        "error of each contender, its worst layer": {name: max(layers) for name, layers in first.items()},
        "perplexity, exact": statistics.mean(one.exact for one in readings.values()),
    }


def rows(timed: Mapping[int, Mapping[int, Seconds]], readings: Mapping[int, Reading]) -> list[dict[str, Any]]:
    """A row per seed and length, and one per seed and contender."""
    speed = [
        {"seed": seed, "tokens": n, "exact_s": both.exact, "hyper_s": both.hyper, "ratio": both.ratio}
        | {"window_s": both.window}
        for seed, lengths in timed.items()
        for n, both in lengths.items()
    ]
    text = [
        {"seed": seed, "contender": name, "error": statistics.median(layers), "worst_layer": max(layers)}
        | {"perplexity_exact": one.exact, "perplexity_patched": one.patched}
        for seed, one in readings.items()
        for name, layers in one.errors.items()
    ]
    return speed + text


def figures(timed: Mapping[int, Mapping[int, Seconds]], readings: Mapping[int, Reading]) -> dict[str, str]:
    """Seconds over length, and the error over layers."""

    def mean(name: str) -> Sequence[tuple[float, float]]:
        lengths = next(iter(timed.values()))
        return [(n, statistics.mean(getattr(one[n], name) for one in timed.values())) for n in lengths]

    first = next(iter(readings.values()))
    errors = {name: list(enumerate(layers)) for name, layers in first.errors.items()}
    seconds_words = "Seconds of one head of causal attention over the number of tokens, exact and HyperAttention"
    errors_words = "Relative error of attention in each layer of SmolLM2 on prose, by contender"
    both = {name: mean(name) for name in ("exact", "hyper", "window")}
    return {
        "seconds": lines(both, "tokens", "seconds", seconds_words, log=True),
        "errors": lines(errors, "layer", "relative error, median head", errors_words),
    }
