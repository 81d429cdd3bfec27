"""What an add-on for a pretrained language model is: a small module that reads and edits the residual stream.

An add-on sees each forward pass of the model as a `Call`: positions, which tokens are padding, and the key/value cache
in which it keeps what it needs of earlier tokens, as a further layer beside those of the model. So whatever is done to
a cache (rows repeated, chosen, reordered, a prefix shared) is done to the add-on's memory as well, and it does not
outlive the sequence.
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
    """A layer of a cache that belongs to an add-on: keys and values of every token so far."""

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner

    def seen(self) -> int:
        """How many tokens it has taken in."""
        return self.get_seq_length()


@dataclass
class Call:
    """One forward pass of the model.

    Attributes:
        mask: `attention_mask` as the model got it: [batch, all tokens], or [batch, 1, length, all tokens] additive.
        position_ids: of the new tokens, if the model uses such.
        cache: the model's cache, if it keeps one.
        before: how many tokens the cache held when the pass began.
        kept: what an add-on remembers from one of its sites to the next.
    """

    mask: Tensor | None = None
    position_ids: Tensor | None = None
    cache: Any = None
    before: int = 0
    kept: dict[Any, Any] = field(default_factory=dict)

    def memory(self, owner: str, make: Callable[[str], Memory] = Memory) -> Memory | None:
        """The add-on's layer in the cache, made with the first tokens; None where nothing is cached.

        Raises:
            LetheonError: the cache holds tokens that the add-on has not seen.
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
        """Of the new tokens; counted on from the tokens before where the model uses none."""
        given = self.position_ids
        if given is None:
            given = torch.arange(self.before, self.before + hidden.shape[1], device=hidden.device)[None]
        return given.expand(hidden.shape[0], -1)

    def visible(self, hidden: Tensor) -> Bool[Tensor, "batch _ tokens"]:
        """Which of all tokens so far are no padding and may be seen, by each new token or by all alike."""
        if self.mask is None:
            return torch.ones(1, 1, self.before + hidden.shape[1], dtype=torch.bool, device=hidden.device)
        if self.mask.ndim == 2:
            return self.mask[:, None] != 0
        return self.mask[:, 0] if self.mask.dtype == torch.bool else self.mask[:, 0] >= 0


Edit = Callable[[Float[Tensor, "batch length width"], Call], Float[Tensor, "batch length width"]]


class AddOn(nn.Module):
    """A module beside a model. Subclasses say which sites they see; one that changes nothing gives back what it got.

    Args:
        width: of the residual stream.
        layers: how many the model has.
        settings: the add-on's own.
    """

    name: str

    def __init__(self, width: int, layers: int, settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def edits(self) -> Mapping[Site, Edit]:
        """What happens at which site, in the order of a forward pass."""
        raise NotImplementedError  # every add-on says what it edits

    def penalty(self) -> Float[Tensor, ""]:
        """What is added to the loss in training, from the last forward pass."""
        return torch.zeros(())


def zeroed(layer: nn.Linear, bias: float = 0.0) -> nn.Linear:
    """The layer with weights of zero and a constant bias, so that an untrained add-on changes nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer
