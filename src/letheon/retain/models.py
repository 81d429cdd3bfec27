"""The default network of the shipped streams, a multilayer perceptron: `mlp`, `mlp=256-256`."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from letheon.core.errors import InputError
from letheon.core.rows.sampling import stream_seed
from letheon.retain.rows import TaskRows
from letheon.retain.stream import Stream

HIDDEN = "100-100"


def mlp(sizes: list[int], seed: int = 0) -> nn.Sequential:
    """Return linear layers with ReLU between them, with torch's initial values under a seed.

    Args:
        sizes: widths of the inputs, the hidden layers and the outputs.
    """
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "mlp"))
        layers: list[nn.Module] = []
        for i, (width, out) in enumerate(pairwise(sizes)):
            layers += [nn.Linear(width, out)] + ([nn.ReLU()] if i + 2 < len(sizes) else [])
        return nn.Sequential(*layers)


def mlp_for(stream: Stream, text: str = "mlp", seed: int = 0) -> nn.Sequential:
    """Return a network for a stream of tensors; `text` is `mlp` or `mlp=WIDTH-WIDTH`."""
    name, _, hidden = text.partition("=")
    try:
        widths = [int(width) for width in (hidden or HIDDEN).split("-")]
    except ValueError:
        widths = [0]
    if name != "mlp" or min(widths) < 1:
        raise InputError(f"model {text!r}", "write mlp or mlp=100-100")
    train = stream.tasks[0].train
    if not isinstance(train, TaskRows):
        raise InputError(f"stream {stream.name} holds texts, which {text} cannot learn", "give a language model")
    shape = tuple(train.inputs.shape[1:])
    made = mlp([math.prod(shape), *widths, stream.classes], seed)
    return nn.Sequential(nn.Flatten(), *made) if len(shape) > 1 else made
