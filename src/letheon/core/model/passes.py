"""Shortened forward passes: stop after a layer, start at a layer, and reuse the outputs of frozen layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from letheon.core.model.hooks import record, with_entering
from letheon.core.model.sites import Site, blocks
from letheon.core.rows.encoding import Batch


class _Stop(Exception):
    """Ends a forward pass early; `stop_after` catches it."""


@contextmanager
def stop_after(model: nn.Module, layer: int) -> Iterator[None]:
    """End the model's forward passes after a layer while the block runs; a pass then returns the layer's output.

    The pass ends inside the model's own `forward`, so that hooks around it (FSDP2's) see it end.
    """

    inner = model.forward

    def stop(_: nn.Module, __: Any, output: Any) -> None:
        raise _Stop(output)

    @wraps(inner)
    def until(*args: Any, **kwargs: Any) -> Any:
        try:
            return inner(*args, **kwargs)
        except _Stop as end:
            return end.args[0]

    with blocks(model)[layer].register_forward_hook(stop), _replaced_forward(model, until):
        yield


@contextmanager
def start_from(model: nn.Module, layer: int, hidden: Float[Tensor, "batch length width"]) -> Iterator[None]:
    """Start forward passes at a layer from supplied hidden states while the block runs; lower layers are skipped."""
    layers = blocks(model)

    def skip(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states

    def replace(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return with_entering(args, kwargs, hidden)

    with ExitStack() as stack:
        for block in list(layers)[:layer]:
            stack.enter_context(_replaced_forward(block, skip))
        stack.enter_context(layers[layer].register_forward_pre_hook(replace, with_kwargs=True))
        yield


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Keep only the blocks' inputs for the backward pass, and run each block again there (gradient checkpointing).

    The model may use no key/value cache meanwhile: a block that is run again would add to it again.
    """

    def again(forward: Any) -> Any:
        return lambda *args, **kwargs: (
            checkpoint(forward, *args, use_reentrant=False, **kwargs)
            if torch.is_grad_enabled()
            else forward(*args, **kwargs)
        )

    with ExitStack() as stack:
        for block in blocks(model):
            stack.enter_context(_replaced_forward(block, again(block.forward)))
        yield


@contextmanager
def _replaced_forward(module: nn.Module, forward: Any) -> Iterator[None]:
    """Run another function in place of a module's `forward`: an instance attribute hides the class's method."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


class FrozenLayers:
    """Caches the outputs of frozen layers per row number, so that later passes start above them.

    Args:
        below: number of frozen layers (0 to below - 1); later passes start at layer `below`.

    Attributes:
        alike: whether rows with the same first tokens have the same first states.
    """

    alike = True

    def __init__(self, below: int) -> None:
        self.below = below
        self.states: dict[int, Tensor] = {}

    def states_of(self, model: nn.Module, batch: Batch) -> Float[Tensor, "batch length width"]:
        """Return the inputs of layer `below`, zero at padding; rows that are new are computed first."""
        for i, number in enumerate(batch.index.tolist()):
            if number not in self.states:
                self.states[number] = self._alone(model, batch.input_ids[i, : int(batch.attention_mask[i].sum())])
        rows = [self.states[number] for number in batch.index.tolist()]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        short = batch.input_ids.shape[1] - padded.shape[1]
        return nn.functional.pad(padded, (0, 0, 0, short)) if short else padded

    def _alone(self, model: nn.Module, ids: Int[Tensor, " length"]) -> Float[Tensor, "length width"]:
        """Run one row by itself: batched with other rows, its states would differ in their last bits."""
        site = Site(self.below - 1)
        with torch.no_grad(), record(model, [site]) as found, stop_after(model, self.below - 1):
            model(ids[None], use_cache=False)
        return found[site][0].clone()
