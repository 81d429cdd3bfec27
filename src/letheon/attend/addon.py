"""Add-ons for a pretrained language model: small modules that read and edit the residual stream.

An add-on gets each forward pass of the model as a `Call`: positions, padding, and the key/value cache, in which the
add-on stores its memory of earlier tokens as a further layer. Every operation on the cache (repeating, choosing or
reordering rows, sharing a prefix) therefore also applies to that memory, which ends with the sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from letheon.core.errors import LetheonError
from letheon.core.model.sites import Site


class Memory(DynamicLayer):
    """An add-on's layer in the cache: keys and values of every token so far."""

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner

    def seen(self) -> int:
        """Return the number of tokens that the layer has stored."""
        return self.get_seq_length()


@dataclass
class Call:
    """One forward pass of the model.

    Attributes:
        mask: the model's `attention_mask`: [batch, all tokens], or additive [batch, 1, length, all tokens].
        position_ids: positions of the new tokens, if the model uses them.
        cache: the model's cache, if it has one.
        before: tokens in the cache before the pass.
        kept: tensors that an add-on passes from one of its sites to the next.
    """

    mask: Tensor | None = None
    position_ids: Tensor | None = None
    cache: Any = None
    before: int = 0
    kept: dict[Any, Any] = field(default_factory=dict)

    def memory(self, owner: str, make: Callable[[str], Memory] = Memory) -> Memory | None:
        """Return the add-on's layer in the cache, made with the first tokens; None without a cache.

        Raises:
            LetheonError: the cache holds tokens that the add-on has not stored.
        """
        if self.cache is None:
            return None
        found = next((one for one in self.cache.layers if getattr(one, "owner", None) == owner), None)
        if found is None:
            found = make(owner)
            self.cache.layers.append(found)
        if found.seen() != self.before:
            raise LetheonError(
                f"the cache holds {self.before} tokens, of which {owner} has seen {found.seen()}",
                "fill a cache with the add-on on from its first token, or begin a new one",
            )
        return found

    def positions(self, hidden: Tensor) -> Int[Tensor, "batch length"]:
        """Return the positions of the new tokens, counted from the cached tokens where the model uses none."""
        given = self.position_ids
        if given is None:
            given = torch.arange(self.before, self.before + hidden.shape[1], device=hidden.device)[None]
        return given.expand(hidden.shape[0], -1)

    def visible(self, hidden: Tensor) -> Bool[Tensor, "batch _ tokens"]:
        """Return which of all tokens so far each new token may see, or all new tokens alike (dimension 1)."""
        if self.mask is None:
            return torch.ones(1, 1, self.before + hidden.shape[1], dtype=torch.bool, device=hidden.device)
        if self.mask.ndim == 2:
            return self.mask[:, None] != 0
        return self.mask[:, 0] if self.mask.dtype == torch.bool else self.mask[:, 0] >= 0


Edit = Callable[[Float[Tensor, "batch length width"], Call], Float[Tensor, "batch length width"]]


class AddOn(nn.Module):
    """A trainable module beside a model; a subclass names the sites that it edits.

    Args:
        width: width of the residual stream.
        layers: number of the model's layers.
        settings: the add-on's options.
    """

    name: str

    def __init__(self, width: int, layers: int, settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def edits(self) -> Mapping[Site, Edit]:
        """Return the edits by site, in the order of a forward pass."""
        raise NotImplementedError  # every add-on says what it edits

    def penalty(self) -> Float[Tensor, ""]:
        """Return the add-on's own term of the training loss, from the last forward pass."""
        return torch.zeros(())


def zeroed(layer: nn.Linear, bias: float = 0.0) -> nn.Linear:
    """Set the layer's weights to zero and its bias to a constant, so that an untrained add-on changes nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer
