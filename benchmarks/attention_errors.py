"""How far HyperAttention, far attention and windows are from exact attention at the lengths where they are fast.

    python -m benchmarks.attention_errors [--json] [--tokens 8192 32768] [--queries N] [--layers N] [--seed S]
                                        [--hand-on far|window|hyper]

SmolLM2 reads one of two books (`public_domain_text` in the folder that LETHEON_DATA names). Beyond the 8192 tokens that
it was trained for, its rotary angles are stretched by YaRN (arXiv 2309.00071), and what a layer hands on is far
attention's output: exact attention of all queries would take minutes per layer. Errors are of random queries, for which
exact attention to all keys is computed in every layer: ‖out - exact‖ / ‖exact‖ per head, median over heads. Windows
with pinned keys compute as many pairs as the method that they stand beside. Without a causal mask, the same queries
attend to later keys as well, which SmolLM2 never does: a figure of the method and not of the model.

Two things may favour far attention. Queries and keys of later layers are those of a model that has read the text with
it, so that no head looks for what far attention did not hand on: `--hand-on window` shows what that amounts to. And the
products of queries and chunks by which it chooses are no pairs: they are `choice` of all pairs more, each of which
costs about as much as a pair, and the windows beside it do not get them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.common import begin, parser, say
from letheon.attend.errors import Attend, equal_width, local_window, perplexity, relative_errors
from letheon.attend.far import FAR, Settings, far_attention, far_pairs
from letheon.attend.hyper import MODEL, computed_pairs
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


def contenders(n: int, seed: int) -> dict[tuple[str, bool], Attend]:
    """Name and whether causal -> a method."""
    hyper = computed_pairs(n, True, MODEL)
    return {
        ("hyper", True): hyper_attend(seed),
        ("window, pairs as hyper", True): local_window(equal_width(hyper, n, MODEL.pin_first), MODEL.pin_first),
        ("far", True): partial(far_attention, **vars(FAR)),
        ("window, pairs as far", True): local_window(equal_width(far_pairs(n, FAR), n, FAR.pin_first), FAR.pin_first),
        ("hyper, no mask", False): hyper_attend(seed, causal=False),
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


def shares(n: int) -> dict[str, float]:
    """The share of all pairs that each method computes; a choice of chunks is not counted."""
    causal = n * (n + 1) / 2
    return {
        "hyper": computed_pairs(n, True, MODEL) / causal,
        "far": far_pairs(n, FAR) / causal,
        "hyper, no mask": computed_pairs(n, False, MODEL) / n**2,
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


def errors(
    model: LanguageModel, ids: Int[Tensor, " n"], queries: int, seed: int, hand_on: str = "far"
) -> tuple[dict[str, list[float]], float]:
    """Return each method's error by layer, median over heads, and the perplexity of the text's last quarter."""
    n = len(ids)
    places = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:queries].sort().values
    methods = contenders(n, seed)
    found: dict[str, list[float]] = {name: [] for name, _ in methods}
    handed_on = (HANDED_ON[hand_on], True)

    def attention(_: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **__: Any) -> tuple[Tensor, None]:
        assert mask is None
        exact = {causal: exact_at(q, k, v, places, causal) for causal in (True, False)}
        out = methods[handed_on](q, k, v)
        for (name, causal), attend in methods.items():
            ours = out if (name, causal) == handed_on else attend(q, k, v)
            found[name].append(float(relative_errors(ours[:, :, places], exact[causal]).median()))
        say(f"{n} tokens, layer {len(found['far'])}: " + ", ".join(f"{name} {x[-1]:.3f}" for name, x in found.items()))
        return out.transpose(1, 2), None

    with replaced_attention(model.base(), attention):
        surprise = perplexity(model, ids, every=8, first=n - n // 4)
    return found, surprise


def row_of(n: int, by_layer: Mapping[str, list[float]], surprise: float) -> dict[str, Any]:
    """One row per length: the median over layers and the worst layer, per method."""
    table = {
        name: {"error": statistics.median(layers), "worst_layer": max(layers), "pairs": shares(n).get(name)}
        for name, layers in by_layer.items()
    }
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
    chosen = options.parse_args()
    begin(chosen)
    folder = data_folder("public_domain_text", GET)
    rows = []
    for n in chosen.tokens:
        model = load(chosen.model)
        stretched(model, n)
        ids = text_of(model, folder, n, chosen.seed)
        if chosen.layers:
            inner = model.base().model
            inner.layers = inner.layers[: chosen.layers]
        rows.append(row_of(n, *errors(model, ids, chosen.queries, chosen.seed, chosen.hand_on)))
    if chosen.json:
        print(json.dumps(rows))
        return
    table = Table(title="Relative error, median over heads", title_justify="left", box=None, header_style="bold")
    for heading in ("tokens", "method", "pairs", "median layer", "worst layer"):
        table.add_column(heading, justify="right")
    for row in rows:
        for name, found in row["methods"].items():
            pairs = "" if found["pairs"] is None else f"{found['pairs']:.1%}"
            table.add_row(str(row["tokens"]), name, pairs, f"{found['error']:.3f}", f"{found['worst_layer']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
