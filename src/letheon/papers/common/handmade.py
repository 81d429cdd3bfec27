"""Transformers with hand-set weights: one-hot embeddings, and heads that look something up and write it down.

A GPT-2 whose width is divided into fields of equal size. The first field holds the token (one-hot, and it is what the
output layer reads), the second the position, the third is scratch. MLPs are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

TOKEN, POSITION, SCRATCH = 0, 1, 2


@dataclass
class Head:
    """A head that compares field `asks` of the query, moved by `offset`, with field `at` of the keys.

    It copies field `reads` of the attended position into field `writes`.
    """

    asks: int
    at: int
    reads: int
    writes: int
    offset: int = 0
    sharpness: float = 4.0
    gain: float = 3.0
    table: Tensor | None = None  # [size, size] instead of the shift: which key code each query code asks for
    values: Tensor | None = None  # [size, size] instead of the identity: what each read code writes


def handmade(size: int, layers: list[list[Head | None]], positions: int = 64) -> GPT2LMHeadModel:
    """Build a GPT-2 with a vocabulary of `size`, and the given heads per layer (None: a head that does nothing)."""
    heads = len(layers[0])
    fields = 3
    width = max(fields, heads) * size  # every head holds a field
    width += -width % heads
    config = GPT2Config(
        vocab_size=size, n_embd=width, n_layer=len(layers), n_head=heads, n_positions=max(positions, size),
        bos_token_id=None, eos_token_id=None, pad_token_id=0, tie_word_embeddings=True,
        resid_pdrop=0, attn_pdrop=0, embd_pdrop=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln" not in name:
                parameter.zero_()
        model.transformer.wte.weight[:, :size] = torch.eye(size)
        room = min(size, config.n_positions)
        model.transformer.wpe.weight[:room, size : 2 * size] = torch.eye(size)[:room]
        for block, made in zip(model.transformer.h, layers, strict=True):
            for number, head in enumerate(made):
                if head is not None:
                    _set(block.attn, number, head, size, width, width // heads)
    return model


def _set(attention: object, number: int, head: Head, size: int, width: int, inner: int) -> None:
    shift = torch.eye(size).roll(head.offset, 1) if head.table is None else head.table  # query code i asks i + offset
    begin = number * inner
    weight, out = attention.c_attn.weight, attention.c_proj.weight  # type: ignore[attr-defined]
    field = slice(head.asks * size, (head.asks + 1) * size)
    weight[field, begin : begin + size] = head.sharpness * shift
    field = slice(head.at * size, (head.at + 1) * size)
    weight[field, width + begin : width + begin + size] = torch.eye(size)
    field = slice(head.reads * size, (head.reads + 1) * size)
    weight[field, 2 * width + begin : 2 * width + begin + size] = torch.eye(size)
    values = torch.eye(size) if head.values is None else head.values
    out[begin : begin + size, head.writes * size : (head.writes + 1) * size] = head.gain * values
