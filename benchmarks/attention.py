"""Attention to long texts against torch's fused exact attention, and how far it is from it inside a model.

    python -m benchmarks.attention [--json] [--repeats N] [--threads N] [--longest N] [--only NAME] [--speed-only]
                                   [--precision bfloat16] [--figure FILE.svg]

Speed: float32 unless bfloat16 is asked for, heads of width 64, random tensors, both sides in turn in one process; every
length is really run, the longest ones with one head and at most twice. Error: what meets in SmolLM2 while it reads 8192
tokens of two books, from `public_domain_text` in the folder that LETHEON_DATA names. Both with the same settings:
`letheon.attend.hyper.MODEL` for HyperAttention, `letheon.attend.far.FAR` for far attention. Random tensors are for
speed only: what attention makes of them is noise. A GPU is used where there is one; nothing here was measured on one.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.common import Compared, begin, compare, in_turn, parser, say, show
from letheon.attend.errors import Attend, equal_width, local_window
from letheon.attend.far import FAR, far_attention, far_pairs
from letheon.attend.hyper import MODEL, computed_pairs, hyper_attention
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.models import load
from letheon.papers.common.data import data_folder
from letheon.papers.hyperattention import BOOKS, GET, TOKENS, WIDTH, Reading, passage, read
from letheon.report.plots import lines

# Name of an entry: tokens, heads, causal, contender, forward and backward.
ENTRIES = {
    "causal_8192": (8192, 4, True, "hyper", False),
    "causal_32768": (32768, 2, True, "hyper", False),
    "causal_131072": (131072, 1, True, "hyper", False),
    "full_131072": (131072, 1, False, "hyper", False),
    "training_8192": (8192, 4, True, "hyper", True),
    "far_8192": (8192, 4, True, "far", False),
    "far_32768": (32768, 2, True, "far", False),
    "far_131072": (131072, 1, True, "far", False),
    "far_training_8192": (8192, 4, True, "far", True),
}
WINDOW = "window, pairs as far"
LONG, SHORTEST = 65536, 1024
# Drawn beside exact attention where they can be imported: name, and a function of q, k, v and `causal`.
CONTENDERS = {
    "hyper": ("letheon.attend.hyper", "hyper_attention", vars(MODEL)),
    "far": ("letheon.attend.far", "far_attention", vars(FAR)),
    "nala": ("letheon.attend.nalaformer", "nala_attention", {}),
}


def tensors(n: int, heads: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """q, k and v: [1, heads, n, 64]."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, n, WIDTH, generator=generator).to(device, dtype) for _ in range(3)]


def clocked(
    attend: Callable[..., Tensor], inputs: list[Tensor], causal: bool, training: bool = False
) -> Callable[[], None]:
    """A call that is over when the work is; for training it ends with the gradients."""
    name = "is_causal" if attend is scaled_dot_product_attention else "causal"
    options = {} if getattr(attend, "func", None) is far_attention else {name: causal}
    inputs = [x.detach().requires_grad_(training) for x in inputs]

    def work() -> None:
        with torch.inference_mode(not training):
            out = attend(*inputs, **options)
            if training:
                torch.autograd.grad(out, inputs, out.detach())
            if out.is_cuda:
                torch.cuda.synchronize()

    return work


def speed(
    n: int,
    heads: int,
    causal: bool,
    repeats: int,
    contender: str = "hyper",
    training: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Compared:
    """Exact attention over ours."""
    pairs = far_pairs(n, FAR) if contender == "far" else computed_pairs(n, causal, MODEL)
    share = pairs / (n * (n + 1) / 2 if causal else n * n)
    if share >= 1:
        raise LetheonError(f"{n} tokens are attended to exactly", "a ratio of a computation to itself says nothing")
    inputs = tensors(n, heads, dtype)
    ours = partial(far_attention, **vars(FAR)) if contender == "far" else partial(hyper_attention, **vars(MODEL))
    sides = {
        "theirs": clocked(scaled_dot_product_attention, inputs, causal, training),
        "ours": clocked(ours, inputs, causal, training),
    }
    if n < LONG:
        in_turn(sides, 1)  # warm up
    found = in_turn(sides, repeats if n < LONG else min(repeats, 2))
    return compare(found["theirs"], found["ours"], f"{heads} heads; {share:.1%} of the pairs are computed")


def importable() -> dict[str, Callable[..., Tensor]]:
    """The contenders that are there, and exact attention."""
    found: dict[str, Callable[..., Tensor]] = {"exact": scaled_dot_product_attention}
    for name, (module, function, options) in CONTENDERS.items():
        try:
            found[name] = partial(getattr(import_module(module), function), **options)
        except (ImportError, AttributeError):
            say(f"{name} is left out: there is no {module}.{function}")
    return found


def curve(longest: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of one causal head over the number of tokens; the fastest of three runs, of one where runs are long."""
    contenders = importable()
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    n = SHORTEST
    while n <= longest:
        inputs = tensors(n, 1)
        sides = {name: clocked(attend, inputs, True) for name, attend in contenders.items()}
        for name, times in in_turn(sides, 3 if n < LONG else 1).items():
            points[name].append((n, min(times)))
        n *= 2
    return points


def crossover(points: Mapping[str, list[tuple[float, float]]], name: str) -> int | None:
    """The shortest length from which on a contender is faster than exact attention; None where it never is."""
    faster = [(n, ours < exact) for (n, ours), (_, exact) in zip(points[name], points["exact"], strict=True)]
    slower = [i for i, (_, won) in enumerate(faster) if not won]
    first = slower[-1] + 1 if slower else 0
    return int(faster[first][0]) if first < len(faster) else None


def drawn(points: Mapping[str, list[tuple[float, float]]]) -> str:
    """The curves on logarithmic axes, and in words where they cross."""
    crossings = [f"{name} is faster from {crossover(points, name) or 'no measured'} tokens" for name in points]
    words = "Seconds of one head of causal attention over tokens: " + "; ".join(crossings[1:])
    return lines(points, "tokens", "seconds", words, log=True)


def readings(options: argparse.Namespace) -> list[Reading]:
    """Of a passage of each book; none, and a remark why, where the text or the model is not long enough."""
    try:
        folder = data_folder("public_domain_text", GET)
    except InputError as error:
        say(f"errors are left out: {error}")
        return []
    model = load(options.model)
    if model.context_length < TOKENS:
        say(f"errors are left out: {options.model} reads {model.context_length} tokens, {TOKENS} are wanted")
        return []
    window = local_window(equal_width(far_pairs(TOKENS, FAR), TOKENS, FAR.pin_first), FAR.pin_first)
    others: dict[str, Attend] = {"far": partial(far_attention, **vars(FAR)), WINDOW: window}
    return [read(model, passage(model, folder, seed), seed, True, others) for seed in range(len(BOOKS))]


def errors(found: Sequence[Reading]) -> dict[str, Compared]:
    """The median error over layers and passages, lowest and highest layer beside; perplexity patched over exact."""
    ours, plain = ([error for one in found for error in one.errors[name]] for name in ("hyper", "plain variant"))
    middle = statistics.median
    note = "lowest and highest: of a layer; field: the paper's plain variant"
    error = Compared(middle(ours), min(ours), max(ours), middle(plain), middle(ours), "", note)
    far, near = ([error for one in found for error in one.errors[name]] for name in ("far", WINDOW))
    note = "lowest and highest: of a layer; field: a window with pinned keys and as many pairs"
    chosen = Compared(middle(far), min(far), max(far), middle(near), middle(far), "", note)
    note = f"every layer patched, {TOKENS} tokens, a passage of each book; field: exact"
    worse = compare([one.patched for one in found], [one.exact for one in found])
    perplexity = replace(worse, theirs=worse.ours, ours=worse.theirs, unit="", note=note)
    return {"error_median": error, "perplexity_ratio": perplexity, "far_error_median": chosen}


def show_errors(reading: Reading) -> None:
    """Relative error of every contender, layer by layer, on the first passage."""
    table = Table(title="Relative error, median head", title_justify="left", box=None, header_style="bold")
    for heading in ("layer", *reading.errors):
        table.add_column(heading, justify="right")
    for layer, values in enumerate(zip(*reading.errors.values(), strict=True)):
        table.add_row(str(layer), *(f"{value:.3f}" for value in values))
    table.add_row("median", *(f"{statistics.median(values):.3f}" for values in reading.errors.values()))
    Console().print(table)


def main() -> None:
    """Parse, measure, print."""
    options = parser("Approximate attention against torch's exact attention.")
    options.add_argument("--longest", type=int, default=131072, help="leave out longer texts (default 131072)")
    options.add_argument("--only", default="", help="time only the entries with this in their name")
    options.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of the timed tensors")
    options.add_argument("--speed-only", action="store_true", help="leave out errors and perplexity")
    options.add_argument("--figure", type=Path, help="draw seconds over tokens into this SVG file")
    chosen = options.parse_args()
    begin(chosen)
    entries = {
        name: speed(n, heads, causal, chosen.repeats, contender, training, getattr(torch, chosen.precision))
        for name, (n, heads, causal, contender, training) in ENTRIES.items()
        if n <= chosen.longest and chosen.only in name
    }
    found = [] if chosen.speed_only else readings(chosen)
    if found:
        entries |= errors(found)
    show(entries, f"Attention, {torch.get_num_threads()} threads, heads of {WIDTH}, {chosen.precision}", chosen.json)
    if found and not chosen.json:
        show_errors(found[0])
    if chosen.figure:
        points = curve(chosen.longest)
        chosen.figure.write_text(drawn(points), encoding="utf-8")
        for name in list(points)[1:]:
            say(f"{name} is faster than exact attention from {crossover(points, name) or 'no measured'} tokens on")


if __name__ == "__main__":
    main()
