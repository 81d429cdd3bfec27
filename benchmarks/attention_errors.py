"""How far HyperAttention, far attention and windows are from exact attention at the lengths where they are fast.

    python -m benchmarks.attention_errors [--json] [--tokens 8192 32768] [--queries N] [--layers N] [--seed S]
                                        [--hand-on far|window|hyper] [--leaf N] [--operator]

SmolLM2 reads one of two books (`public_domain_text` in the folder that LETHEON_DATA names). Beyond the 8192 tokens that
it was trained for, its rotary angles are stretched by YaRN (arXiv 2309.00071), and what a layer hands on is far
attention's output: exact attention of all queries would take minutes per layer. Errors are of random queries, for which
exact attention to all keys is computed in every layer: ‖out - exact‖ / ‖exact‖ per head, median over heads. Windows
with pinned keys compute as many pairs as the method that they stand beside. Without a causal mask, the same queries
attend to later keys as well, which SmolLM2 never does: a figure of the method and not of the model.

`--operator` adds HyperAttention's own measure, ‖out - exact‖ / (‖D⁻¹A‖ ‖V‖) in operator norms, over all queries: exact
attention of all of them, and some twenty passes of it per layer. Up to 2048 tokens hyper is exact; `--leaf` makes its
leaves shorter.

Two things may favour far attention. Queries and keys of later layers are those of a model that has read the text with
it, so that no head looks for what far attention did not hand on: `--hand-on window` shows what that amounts to. And the
products of queries and chunks by which it chooses are no pairs: they are `choice` of all pairs more, each of which
costs about as much as a pair, and the windows beside it do not get them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.common import begin, parser, say
from letheon.attend.errors import (
    Attend,
    attention_norms,
    equal_width,
    local_window,
    operator_errors,
    perplexity,
    relative_errors,
)
from letheon.attend.far import FAR, Settings, far_attention, far_pairs
from letheon.attend.hyper import MODEL, computed_pairs
from letheon.attend.hyper import Settings as HyperSettings
from letheon.core.model.attention import replaced_attention
from letheon.core.model.models import LanguageModel, load
from letheon.papers.common.data import data_folder
from letheon.papers.hyperattention import BOOKS, GET, hyper_attend

AT_ONCE = 32  # queries whose scores are held at once
HANDED_ON = {"far": "far", "window": "window, pairs as far", "hyper": "hyper"}  # option -> a causal method


def exact_at(
    q: Float[Tensor, "1 heads n d"],
    k: Float[Tensor, "1 groups n d"],
    v: Float[Tensor, "1 groups n d"],
    places: Int[Tensor, " m"],
    causal: bool,
) -> Float[Tensor, "1 heads m d"]:
    """Return exact attention of the queries at some places to all keys (where causal, to those up to their own)."""
    group = q.shape[1] // k.shape[1]
    keys, values = (x.repeat_interleave(group, 1) for x in (k, v))
    found = []
    for some in torch.split(places, AT_ONCE):
        scores = q[:, :, some] @ keys.mT * q.shape[-1] ** -0.5
        if causal:
            scores = scores.masked_fill(torch.arange(k.shape[2]) > some[:, None], -torch.inf)
        found.append(scores.softmax(-1) @ values)
    return torch.cat(found, 2)


def contenders(n: int, seed: int, hyper: HyperSettings = MODEL) -> dict[tuple[str, bool], Attend]:
    """Name and whether causal -> a method."""
    pairs = computed_pairs(n, True, hyper)
    return {
        ("hyper", True): hyper_attend(seed, **vars(hyper)),
        ("window, pairs as hyper", True): local_window(equal_width(pairs, n, hyper.pin_first), hyper.pin_first),
        ("far", True): partial(far_attention, **vars(FAR)),
        ("window, pairs as far", True): local_window(equal_width(far_pairs(n, FAR), n, FAR.pin_first), FAR.pin_first),
        ("hyper, no mask", False): hyper_attend(seed, causal=False, **vars(hyper)),
        ("mean of values, no mask", False): lambda q, k, v: (
            v.mean(2, keepdim=True).repeat_interleave(q.shape[1] // k.shape[1], 1).expand_as(q)
        ),
    }


def choice(n: int, settings: Settings) -> float:
    """Return far attention's products of a query and a chunk when it chooses, as a share of all pairs."""
    starts = range(settings.exact_up_to, n, settings.window)
    chunks = [(start - settings.window - settings.pin_first) // settings.chunk for start in starts]
    found = sum(min(settings.window, n - start) * few for start, few in zip(starts, chunks, strict=True))
    return found / (n * (n + 1) / 2)


def shares(n: int, hyper: HyperSettings = MODEL) -> dict[str, float]:
    """The share of all pairs that each method computes; a choice of chunks is not counted."""
    causal = n * (n + 1) / 2
    return {
        "hyper": computed_pairs(n, True, hyper) / causal,
        "far": far_pairs(n, FAR) / causal,
        "hyper, no mask": computed_pairs(n, False, hyper) / n**2,
    }


def stretched(model: LanguageModel, tokens: int) -> None:
    """Let a model with rotary positions read `tokens` tokens, by YaRN where that is more than it was trained for."""
    config, inner = model.base().config, model.base().model
    if tokens <= config.max_position_embeddings:
        return
    trained = config.max_position_embeddings
    config.rope_parameters = {
        **config.rope_parameters,
        "rope_type": "yarn",
        "factor": tokens / trained,
        "original_max_position_embeddings": trained,
    }
    config.max_position_embeddings = tokens
    inner.rotary_emb = type(inner.rotary_emb)(config=config)


def text_of(model: LanguageModel, folder: Path, tokens: int, seed: int) -> Int[Tensor, " n"]:
    """Return the first tokens of both books, one after the other; an odd seed begins with the second."""
    order = BOOKS[seed % 2 :] + BOOKS[: seed % 2]
    ids = [i for book in order for i in model.tokenizer((folder / book).read_text(encoding="utf-8"))["input_ids"]]
    if len(ids) < tokens:
        raise SystemExit(f"the books have {len(ids)} tokens, {tokens} are wanted")
    return torch.tensor(ids[:tokens])


def by_operator(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Callable[[Tensor], float]:
    """Return the function that gives an output's error in the operator norm, median over heads."""
    values = v.repeat_interleave(q.shape[1] // v.shape[1], 1)
    keys = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    exact, norms = scaled_dot_product_attention(q, keys, values, is_causal=causal), attention_norms(q, k, causal)
    return lambda out: float(operator_errors(out, exact, v, norms).median())


def errors(
    model: LanguageModel,
    ids: Int[Tensor, " n"],
    queries: int,
    seed: int,
    hand_on: str = "far",
    hyper: HyperSettings = MODEL,
    operators: dict[str, list[float]] | None = None,
) -> tuple[dict[str, list[float]], float]:
    """Return each method's error by layer, median over heads, and the perplexity of the text's last quarter.

    Args:
        operators: filled with each method's error in the operator norm by layer; None measures none.
    """
    n = len(ids)
    places = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:queries].sort().values
    methods = contenders(n, seed, hyper)
    found: dict[str, list[float]] = {name: [] for name, _ in methods}
    handed_on = (HANDED_ON[hand_on], True)

    def attention(_: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **__: Any) -> tuple[Tensor, None]:
        assert mask is None
        exact = {causal: exact_at(q, k, v, places, causal) for causal in (True, False)}
        measures = {} if operators is None else {causal: by_operator(q, k, v, causal) for causal in (True, False)}
        out = methods[handed_on](q, k, v)
        for (name, causal), attend in methods.items():
            ours = out if (name, causal) == handed_on else attend(q, k, v)
            found[name].append(float(relative_errors(ours[:, :, places], exact[causal]).median()))
            if operators is not None:
                operators.setdefault(name, []).append(measures[causal](ours))
        say(f"{n} tokens, layer {len(found['far'])}: " + ", ".join(f"{name} {x[-1]:.3f}" for name, x in found.items()))
        return out.transpose(1, 2), None

    with replaced_attention(model.base(), attention):
        surprise = perplexity(model, ids, every=8, first=n - n // 4)
    return found, surprise


def row_of(
    n: int,
    by_layer: Mapping[str, list[float]],
    surprise: float,
    hyper: HyperSettings = MODEL,
    operators: Mapping[str, list[float]] | None = None,
) -> dict[str, Any]:
    """One row per length: the median over layers and the worst layer, per method."""
    table = {
        name: {"error": statistics.median(layers), "worst_layer": max(layers), "pairs": shares(n, hyper).get(name)}
        for name, layers in by_layer.items()
    }
    for name, layers in (operators or {}).items():
        table[name] |= {"operator_error": statistics.median(layers)}
    return {
        "tokens": n,
        "choice": choice(n, FAR),
        "perplexity": surprise,
        "layers": len(by_layer["far"]),
        "methods": table,
    }


def main() -> None:
    """Parse, measure, print."""
    options = parser("Errors of attention at the lengths where it is fast.")
    options.add_argument("--tokens", type=int, nargs="+", default=[8192, 32768], help="lengths (default 8192 32768)")
    options.add_argument("--queries", type=int, default=256, help="random queries per layer (default 256)")
    options.add_argument("--layers", type=int, default=0, help="only the first layers; 0 for all")
    options.add_argument(
        "--seed", type=int, default=0, help="of the queries and of the book that comes first (default 0)"
    )
    options.add_argument("--hand-on", choices=HANDED_ON, default="far", help="what layers hand on (default far)")
    options.add_argument("--leaf", type=int, default=MODEL.min_seq_len, help="tokens of hyper's exact leaves")
    options.add_argument("--operator", action="store_true", help="errors in the operator norm too")
    chosen = options.parse_args()
    begin(chosen)
    folder = data_folder("public_domain_text", GET)
    rows = []
    hyper = replace(MODEL, min_seq_len=chosen.leaf)
    for n in chosen.tokens:
        model = load(chosen.model)
        stretched(model, n)
        ids = text_of(model, folder, n, chosen.seed)
        if chosen.layers:
            inner = model.base().model
            inner.layers = inner.layers[: chosen.layers]
        operators: dict[str, list[float]] | None = {} if chosen.operator else None
        found = errors(model, ids, chosen.queries, chosen.seed, chosen.hand_on, hyper, operators)
        rows.append(row_of(n, *found, hyper, operators))
    if chosen.json:
        print(json.dumps(rows))
        return
    table = Table(title="Relative error, median over heads", title_justify="left", box=None, header_style="bold")
    for heading in ("tokens", "method", "pairs", "median layer", "worst layer", "operator norm"):
        table.add_column(heading, justify="right")
    for row in rows:
        for name, found in row["methods"].items():
            pairs = "" if found["pairs"] is None else f"{found['pairs']:.1%}"
            operator = f"{found['operator_error']:.4f}" if "operator_error" in found else ""
            table.add_row(
                str(row["tokens"]), name, pairs, f"{found['error']:.3f}", f"{found['worst_layer']:.3f}", operator
            )
    Console().print(table)


if __name__ == "__main__":
    main()
