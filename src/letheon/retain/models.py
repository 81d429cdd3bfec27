"""The default network of the shipped streams, a multilayer perceptron: `mlp`, `mlp=256-256`, `mlp=256-256/no-bias`."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from letheon.core.errors import InputError
from letheon.core.rows.sampling import stream_seed
from letheon.retain.rows import TaskRows
from letheon.retain.stream import Stream

NAME = "mlp"
HIDDEN = "100-100"
NO_BIAS = "/no-bias"  # behind a network's name: its head has no bias, so that a logit is two norms and a cosine


def mlp(sizes: list[int], seed: int = 0, head_bias: bool = True) -> nn.Sequential:
    """Return linear layers with ReLU between them, with torch's initial values under a seed.

    Args:
        sizes: widths of the inputs, the hidden layers and the outputs.
        head_bias: whether the last layer has a bias; all other initial values are the same with and without it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "mlp"))
        layers: list[nn.Module] = []
        for i, (width, out) in enumerate(pairwise(sizes)):
            last = i + 2 == len(sizes)
            layers += [nn.Linear(width, out, bias=head_bias or not last)] + ([] if last else [nn.ReLU()])
        return nn.Sequential(*layers)


def is_mlp(text: str) -> bool:
    """Whether a model's name is that of a network made here."""
    return text.removesuffix(NO_BIAS).partition("=")[0] == NAME


def mlp_for(stream: Stream, text: str = NAME, seed: int = 0) -> nn.Sequential:
    """Return a network for a stream of tensors; `text` is `mlp` or `mlp=WIDTH-WIDTH`, either with `/no-bias` behind."""
    hidden = text.removesuffix(NO_BIAS).partition("=")[2]
    try:
        widths = [int(width) for width in (hidden or HIDDEN).split("-")]
    except ValueError:
        widths = [0]
    if not is_mlp(text) or min(widths) < 1:
        raise InputError(f"model {text!r}", f"write mlp or mlp=100-100; mlp=100-100{NO_BIAS} for a head without bias")
    train = stream.tasks[0].train
    if not isinstance(train, TaskRows):
        raise InputError(f"stream {stream.name} holds texts, which {text} cannot learn", "give a language model")
    shape = tuple(train.inputs.shape[1:])
    made = mlp([math.prod(shape), *widths, stream.classes], seed, head_bias=not text.endswith(NO_BIAS))
    return nn.Sequential(nn.Flatten(), *made) if len(shape) > 1 else made
