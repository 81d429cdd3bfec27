"""Activity of a LoRA adapter's factors on sets of rows: tokens that count, inputs of each factor, and their noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.hooks import by_row, labelled_head, on_inputs
from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded

Dims = Literal["both", "input", "rank"]
Tokens = Literal["content", "answer"]
SPLITS = 20  # random halves: a set like the retain rows exceeds all of them by chance in about one case of 21
ROWS_AT_ONCE = 16


def standard_gap(
    difference: Float[Tensor, "... units"], spread: Float[Tensor, " units"], first: int, second: int
) -> Float[Tensor, "... units"]:
    """A difference of two means in units of its standard error, for means over `first` and `second` rows."""
    return difference / (spread * (1 / first + 1 / second) ** 0.5)


@dataclass
class Activity:
    """Activity of a factor's inputs on a set of rows.

    Attributes:
        sums: [rows, units] Σ|a| over a row's tokens.
        squares: [units] Σa² over all tokens.
        counts: [rows] tokens of each row.
    """

    sums: Tensor
    squares: Tensor
    counts: Tensor

    def mean(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Mean |a| over the tokens of some rows, [units]."""
        return self.sums[rows].sum(0) / self.counts[rows].sum()

    def spread(self) -> Tensor:
        """Standard deviation of the rows' means, [units]; at least a thousandth of the mean, where rounding begins."""
        means = self.sums / self.counts[:, None]
        return means.std(0).maximum(1e-3 * means.mean(0)).clamp(min=1e-12)

    def half_gaps(self, splits: int = SPLITS) -> Tensor:
        """Standardised differences between random halves of the rows, [splits, units]; the same under every seed."""
        generator = torch.Generator().manual_seed(0)
        n, spread, found = len(self.counts), self.spread(), []
        for _ in range(splits):
            order = torch.randperm(n, generator=generator)
            one, other = order[: n // 2], order[n // 2 :]
            found.append(standard_gap((self.mean(one) - self.mean(other)).abs(), spread, len(one), len(other)))
        return torch.stack(found)


def lora_factors(model: LanguageModel, dims: Dims = "both") -> dict[str, nn.Linear]:
    """The linear factors of the active LoRA adapters by name: A, whose units are a layer's inputs, and B (the ranks).

    Raises:
        InputError: the model has no such adapter.
    """
    from peft.tuners.lora import LoraLayer

    sides = {"lora_A": "input", "lora_B": "rank"}
    found = {
        f"{name}.{side}.{adapter}": getattr(layer, side)[adapter]
        for name, layer in model.model.named_modules()
        if isinstance(layer, LoraLayer)
        for side in sides
        for adapter in layer.active_adapters
        if dims in ("both", sides[side]) and isinstance(dict(getattr(layer, side).items()).get(adapter), nn.Linear)
    }
    if not found:
        raise InputError(
            f"attenuation changes a LoRA adapter, and {model.name} has none",
            "give the folder of a PEFT LoRA adapter (one that was not merged), or fine-tune with --method ...@lora",
        )
    return found


def content_masks(rows: Sequence[Encoded], endings: Sequence[int], tokens: Tokens = "content") -> list[list[bool]]:
    """Mark the tokens that count, per row: the answer without its end of turn, and the tokens of the row's own prompt.

    Tokens with which all prompts begin, or all end, are template or instruction: they would
    dominate every mean.

    Args:
        endings: tokens of each row's end of turn.
    """
    prompts = [row.ids[: row.start] for row in rows]
    shortest = min(map(len, prompts))
    before = _shared(prompts, shortest)
    after = _shared([prompt[::-1] for prompt in prompts], shortest - before)
    masks = []
    for row, ending in zip(rows, endings, strict=True):
        own = range(before, row.start - after) if tokens == "content" else range(0)
        answer = range(row.start, max(len(row.ids) - ending, row.start + 1))
        masks.append([i in own or i in answer for i in range(len(row.ids))])
    return masks


def _shared(rows: Sequence[Sequence[int]], most: int) -> int:
    """Length of the rows' common beginning in tokens, up to `most`."""
    return next((i for i in range(most) if len({row[i] for row in rows}) > 1), most)


@torch.no_grad()
def record_activity(
    model: LanguageModel, rows: Sequence[Encoded], masks: Sequence[Sequence[bool]], factors: Mapping[str, nn.Module]
) -> dict[str, Activity]:
    """Record each factor's inputs in one forward pass over the rows; needs rows x units x 4 bytes.

    A factor that sees its tokens in another order than the batch's (an expert of a mixture) is left out.
    """
    sums: dict[str, list[tuple[int, Tensor]]] = {name: [] for name in factors}
    squares: dict[str, Tensor] = {}
    odd: set[str] = set()
    for numbers, batch in model.batches(rows, ROWS_AT_ONCE):
        mask = torch.zeros_like(batch.input_ids, dtype=torch.bool)
        for place, i in enumerate(numbers):
            mask[place, : len(masks[i])] = torch.tensor(masks[i], device=mask.device)

        def see(name: str, seen: Tensor, mask: Tensor = mask, numbers: list[int] = numbers) -> None:
            whole = by_row(seen, *mask.shape)
            if whole is None:
                odd.add(name)
                return
            counted = whole.float() * mask[..., None]
            sums[name] += zip(numbers, counted.abs().sum(1).cpu(), strict=True)
            squares[name] = squares.get(name, 0) + counted.square().sum((0, 1)).cpu()

        first = torch.zeros(1, dtype=torch.long, device=model.device)
        with on_inputs(factors, see), labelled_head(model.base(), first, first):  # the vocabulary is not needed
            model.base()(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    counts = torch.tensor([float(sum(mask)) for mask in masks])
    return {
        name: Activity(torch.stack([row for _, row in sorted(found, key=lambda pair: pair[0])]), squares[name], counts)
        for name, found in sums.items()
        if len(found) == len(rows) and name not in odd
    }
