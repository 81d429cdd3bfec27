"""The tokens that a steering acts on: all, those of the prompt, the generated ones, or the prompt's last one.

The choice does not depend on how the model is run. A token belongs to the prompt if it stood in the first pass; passes
with a cache, and passes without one that repeat the earlier tokens and add some, go on generating.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.hooks import on_calls

Tokens = Literal["all", "prompt", "generated", "last"]


def check_tokens(tokens: str) -> Tokens:
    """Return the choice of tokens if it is one.

    Raises:
        InputError: it is not.
    """
    if tokens not in get_args(Tokens):
        raise InputError(f"tokens {tokens!r}", "one of " + ", ".join(get_args(Tokens)))
    return tokens  # type: ignore[return-value]  # checked above


class Positions:
    """Which positions of the present forward pass are steered; it follows the model's calls.

    Attributes:
        masks: per choice of tokens the positions of the present pass, [batch, length]; `all` has no mask.
    """

    def __init__(self) -> None:
        self.masks: dict[Tokens, Bool[Tensor, "batch length"]] = {}
        self._ids: Tensor | None = None
        self._prompt = 0  # tokens of the prompt, padding on the left included

    def see(self, call: dict[str, Any]) -> None:
        """Note the arguments of a call of the model."""
        given = call.get("input_ids") if call.get("input_ids") is not None else call.get("inputs_embeds")
        if given is None:
            raise InputError("the model was called without input_ids", "give input_ids or inputs_embeds")
        batch, length = given.shape[:2]
        cache = next((one for one in call.values() if hasattr(one, "get_seq_length")), None)  # its name has changed
        past = int(cache.get_seq_length()) if cache is not None else 0
        ids = call.get("input_ids")
        if past == 0 and not self._goes_on(ids):
            self._prompt = length
        self._ids = ids if past == 0 else None
        places = torch.arange(past, past + length, device=given.device)[None]
        real = call.get("attention_mask")
        real = real.bool() if isinstance(real, Tensor) and real.ndim == 2 else None
        prompt = (places < self._prompt).expand(batch, length)
        ends = self._ends(real, batch, given.device)
        self.masks = {"prompt": prompt, "generated": ~prompt, "last": places == ends[:, None]}

    def _goes_on(self, ids: Tensor | None) -> bool:
        """Return whether ids are those of the pass before with more tokens behind them."""
        before = self._ids
        if before is None or ids is None or ids.shape[0] != before.shape[0] or ids.shape[1] <= before.shape[1]:
            return False
        return bool((ids[:, : before.shape[1]] == before).all())

    def _ends(self, real: Tensor | None, batch: int, device: torch.device) -> Tensor:
        """Return the place of each row's last real token of the prompt."""
        if real is None or real.shape[1] < self._prompt:
            return torch.full((batch,), self._prompt - 1, device=device)
        inside = real[:, : self._prompt].long()
        return self._prompt - 1 - inside.flip(1).argmax(1)


@contextmanager
def followed(model: Any) -> Iterator[Positions]:
    """Follow the model's calls while the block runs."""
    positions = Positions()
    with on_calls(model, positions.see):
        yield positions
