"""Can SmolLM2 still find what stands far back? Pass keys and codes in long texts, under exact and other attention.

    python -m benchmarks.needle [--json] [--tokens 4096 8192] [--prompts N] [--kinds passkey codes] [--seed S]

Pages of a book (`public_domain_text` in the folder that LETHEON_DATA names) hide one pass key (`passkey`; five prompts
have it at five depths), or four codes of doors at depths from 10 to 90 % that are asked for one after the other
(`codes`). Questions and answers are turns of one conversation in the model's chat template, and one forward pass reads
it all: a code counts as found if every token of it is the likeliest one after the tokens before it. Answers are read
under the same attention as the text; in real decoding they would be exact.
Far attention stands beside a window with pinned keys and random far chunks, which compute as many pairs (the choice not
counted), and HyperAttention (`MODEL`), which computes more. The window reaches a needle at 90 %, and at 4,096 tokens
one at 63 % too: `by_depth` (with `--json`) tells those from the ones far back. Settings were
chosen on seeds from 100 on.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.common import begin, parser, say
from letheon.attend.errors import Attend, equal_width, local_window
from letheon.attend.far import FAR, far_attention, far_pairs
from letheon.attend.far.choosing import tiles_of
from letheon.attend.far.fast import near_pieces
from letheon.attend.hyper import computed_pairs
from letheon.attend.hyper.parts import Part, attend_parts
from letheon.attend.hyper.settings import MODEL
from letheon.core.model.attention import replaced_attention
from letheon.core.model.models import LanguageModel, load
from letheon.core.statistics import Estimate, estimate_clustered_share, estimate_mean
from letheon.papers.common.data import data_folder
from letheon.papers.hyperattention import BOOKS, GET, hyper_attend

DOORS = ("red", "blue", "green", "black", "white", "yellow", "silver", "purple")
CODES = 4
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
ARMS = ("exact", "far", "window and sinks", "random chunks", "hyper")


class Prompt(NamedTuple):
    """A conversation about a long text.

    Attributes:
        ids: [n] tokens.
        answers: the numbers of the tokens of each code in the answers.
        depths: where in the text each code stands, from 0 to 1.
    """

    ids: Tensor
    answers: list[list[int]]
    depths: list[float]


class Found(NamedTuple):
    """What an arm made of one prompt: per code, whether it was found, and the mean log-probability (nats) per token."""

    hits: list[float]
    logp: list[float]


def prompt_of(model: LanguageModel, folder: Path, kind: str, tokens: int, seed: int) -> Prompt:
    """Return a prompt of a little under so many tokens; the seed chooses book, place, depth, doors and codes."""
    draw = random.Random(seed)
    codes = [str(draw.randrange(10_000, 100_000)) for _ in range(CODES if kind == "codes" else 1)]
    doors = draw.sample(DOORS, len(codes))
    depths = [0.1 + 0.8 * i / (CODES - 1) for i in range(CODES)] if kind == "codes" else [DEPTHS[seed % len(DEPTHS)]]
    names = [f"code of the {door} door" for door in doors] if kind == "codes" else ["pass key"]
    needles = [
        f"The {name} is {code}. Remember it: the {name} is {code}." for name, code in zip(names, codes, strict=True)
    ]
    book = (folder / BOOKS[seed % len(BOOKS)]).read_text(encoding="utf-8")
    start = draw.randrange(5_000, len(book) - 6 * tokens)
    filler = model.tokenizer(book[start : start + 6 * tokens])["input_ids"][: tokens - 60 - 80 * len(codes)]
    text = hidden(model.tokenizer.decode(filler), needles, depths)

    order = draw.sample(range(len(codes)), len(codes))
    turns: list[dict[str, str]] = []
    for i in order:
        question = f"What is the {names[i]}?"
        turns.append({"role": "user", "content": question if turns else f"{text}\n\n{question}"})
        turns.append({"role": "assistant", "content": f"The {names[i]} is {codes[i]}."})
    chat = model.tokenizer.apply_chat_template(turns, tokenize=False)
    encoded = model.tokenizer(chat, add_special_tokens=False, return_offsets_mapping=True)
    answers, place = [], chat.index(turns[1]["content"], chat.index(text) + len(text))
    for i, turn in zip(order, turns[1::2], strict=True):
        place = chat.index(turn["content"], place)
        first = place + turn["content"].index(codes[i])
        spans = enumerate(encoded["offset_mapping"])
        answers.append([t for t, (a, b) in spans if a < first + len(codes[i]) and b > first])
    return Prompt(torch.tensor(encoded["input_ids"]), answers, [depths[i] for i in order])


def hidden(text: str, needles: Sequence[str], depths: Sequence[float]) -> str:
    """Put paragraphs between a text's sentences, at depths from 0 to 1."""
    cuts = [text.index(". ", int(depth * len(text))) + 2 for depth in depths]
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    return pieces[0] + "".join(f"\n\n{one}\n\n{rest}" for one, rest in zip(needles, pieces[1:], strict=True))


def arm(name: str, n: int) -> Attend | None:
    """Return the attention of an arm for n tokens; exact attention is None."""
    if name == "exact":
        return None
    if name == "far":
        return partial(far_attention, **vars(FAR))
    if name == "hyper":
        return hyper_attend(0)
    if name == "random chunks":
        return random_chunks
    return local_window(equal_width(far_pairs(n, FAR), n, FAR.pin_first), FAR.pin_first)


def random_chunks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Far attention of one row to random far chunks: the control for the choice, with as many pairs."""
    heads, n = q.shape[1:3]
    generator = torch.Generator().manual_seed(int(k[0, 0, -1, 0].abs() * 1e6))  # another draw in every layer
    blocks = []
    for start in range(FAR.exact_up_to, n, FAR.block):
        chunks = (start // FAR.window * FAR.window - FAR.window - FAR.pin_first) // FAR.chunk
        blocks.append(torch.rand(heads, chunks, generator=generator).argsort(-1)[:, : FAR.chosen])
    tiles = [tiles_of(torch.stack(blocks, 1), n, k.shape[1], FAR)] if blocks else []
    parts: list[Part] = [*near_pieces(n, FAR), *tiles]
    flat = (q[0].contiguous(), k[0].contiguous(), v[0].contiguous())
    return attend_parts(*flat, parts, q.shape[-1] ** -0.5)[0][None]


@torch.inference_mode()
def ask(model: LanguageModel, prompt: Prompt, attend: Attend | None) -> Found:
    """Read a prompt once and judge every answer."""
    first = prompt.answers[0][0] - 1
    options: dict[str, Any] = {"logits_to_keep": len(prompt.ids) - first, "use_cache": False}
    ids = prompt.ids[None].to(model.device)
    if attend is None:
        logits = model.model(ids, **options).logits[0]
    else:

        def attention(_: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **__: Any) -> tuple[Tensor, None]:
            assert mask is None
            return attend(q, k, v).transpose(1, 2), None

        with replaced_attention(model.base(), attention):
            logits = model.model(ids, **options).logits[0]
    logp = logits.float().log_softmax(-1).cpu()
    hits, means = [], []
    for answer in prompt.answers:
        rows, wanted = logp[[t - 1 - first for t in answer]], prompt.ids[answer]
        hits.append(float((rows.argmax(-1) == wanted).all()))
        means.append(float(rows.gather(1, wanted[:, None]).mean()))
    return Found(hits, means)


def summary(found: Sequence[Found]) -> tuple[Estimate, Estimate]:
    """The share of codes found, with prompts as clusters, and the mean log-probability; 95 % intervals."""
    return estimate_clustered_share([one.hits for one in found]), estimate_mean(
        [sum(one.logp) / len(one.logp) for one in found]
    )


def measure(model: LanguageModel, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per length, kind and arm."""
    rows = []
    for tokens in options.tokens:
        for kind in options.kinds:
            prompts = [prompt_of(model, folder, kind, tokens, options.seed + seed) for seed in range(options.prompts)]
            for name in options.arms:
                found = [ask(model, prompt, arm(name, len(prompt.ids))) for prompt in prompts]
                share, logp = summary(found)
                pairs = {"exact": 1.0, "hyper": computed_pairs(tokens, True, MODEL) / (tokens * (tokens + 1) / 2)}
                row = {"tokens": tokens, "kind": kind, "arm": name, "codes": share.n, "found": share.value}
                row |= {"low": share.low, "high": share.high, "logp": logp.value}
                row["pairs"] = pairs.get(name, far_pairs(tokens, FAR) / (tokens * (tokens + 1) / 2))
                row["by_depth"] = [
                    [round(depth, 2), hit]
                    for prompt, one in zip(prompts, found, strict=True)
                    for depth, hit in zip(prompt.depths, one.hits, strict=True)
                ]
                say(f"{tokens} {kind} {name}: {share.value:.2f} of {share.n}, {logp.value:.2f} nats")
                rows.append(row)
    return rows


def main() -> None:
    """Parse, measure, print."""
    options = parser("Codes far back in long texts, under exact and other attention.")
    options.add_argument("--tokens", type=int, nargs="+", default=[4096, 8192], help="lengths (default 4096 8192)")
    options.add_argument("--kinds", nargs="+", default=["passkey", "codes"], choices=["passkey", "codes"])
    options.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    options.add_argument("--prompts", type=int, default=5, help="prompts per length and kind (default 5)")
    options.add_argument("--seed", type=int, default=0, help="seed of the first prompt (default 0)")
    chosen = options.parse_args()
    begin(chosen)
    folder = data_folder("public_domain_text", GET)
    rows = measure(load(chosen.model), folder, chosen)
    if chosen.json:
        print(json.dumps(rows))
        return
    table = Table(title="Codes found", title_justify="left", box=None, header_style="bold")
    for heading in ("tokens", "kind", "attention", "pairs", "found", "95 %", "log p"):
        table.add_column(heading, justify="right")
    for row in rows:
        interval = "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
        cells = (f"{row['pairs']:.0%}", f"{row['found']:.2f}", interval, f"{row['logp']:.2f}")
        table.add_row(str(row["tokens"]), row["kind"], row["arm"], *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
