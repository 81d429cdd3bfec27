"""Round-to-nearest quantisation of a model's weights, and back.

Small changes of weights can vanish when these are rounded, and what was forgotten returns
(Zhang et al., Catastrophic Failure of LLM Unlearning via Quantization, arXiv 2410.16454).
The rounding is the plain one that GPTQ and AWQ are compared with: a scale (and a zero point) for each group of
neighbouring weights in a row, no calibration data; and, on demand, that of GGUF files. Products
stay in float32: only the weights lose precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from letheon.audit.measuring.merged_copy import merged_copy
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks

# GGUF types with a fixed grid, and their bits; each scale is shared by so many weights.
FILE_TYPES = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8}
BLOCK = 32


@dataclass(frozen=True)
class Grid:
    """A grid that weights are rounded to.

    Attributes:
        bits: per weight, 2 to 16.
        group: weights of a row that share a scale; None shares it over the whole row.
        symmetric: levels around zero without a zero point.
        file_type: of a GGUF file whose own rounding is used; see `of_file`.
    """

    bits: int
    group: int | None = 64
    symmetric: bool = False
    file_type: str | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16 or (self.group is not None and self.group < 1):
            raise InputError(
                f"quantisation with {self.bits} bits in groups of {self.group}",
                "bits must be 2 to 16, and a group at least 1 (or None for whole rows)",
            )

    @classmethod
    def of_file(cls, file_type: str) -> Grid:
        """Return the rounding of a GGUF file of type Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0: what llama.cpp would run.

        A model that came from such a file lies on its grid: a small change of its weights is rounded away, and the
        model before shows nothing there either.

        Raises:
            InputError: another type.
        """
        if file_type not in FILE_TYPES:
            raise InputError(f"quantisation to the GGUF type {file_type!r}", f"choose one of {', '.join(FILE_TYPES)}")
        return cls(FILE_TYPES[file_type], BLOCK, file_type=file_type)


# The two that the standard audit tries; 4 bits is what people run small models with.
STANDARD_GRIDS = (Grid(4), Grid(8))


def round_to_nearest(weight: Tensor, grid: Grid) -> Tensor:
    """Round weights to the nearest points of their grid, in their own dtype.

    Args:
        weight: [..., columns]; groups run along the last axis, the last one may be shorter.

    A group's levels are evenly spaced. Asymmetric: 2^bits levels from its least to its greatest weight, zero being
    one of them. Symmetric: integers from -2^(bits-1) to 2^(bits-1) - 1 times (largest magnitude) / (2^(bits-1) - 1).
    """
    columns = weight.shape[-1]
    size = min(grid.group or columns, columns)
    rows = weight.reshape(-1, columns).float()
    # Filled up with the last weight, a short group keeps its least and greatest one.
    grouped = functional.pad(rows, (0, -columns % size), mode="replicate").reshape(-1, size)
    if grid.file_type:
        rounded = _as_in_a_file(grouped, grid.file_type)
    else:
        rounded = _symmetric(grouped, grid.bits) if grid.symmetric else _asymmetric(grouped, grid.bits)
    return rounded.reshape(len(rows), -1)[:, :columns].reshape(weight.shape).to(weight.dtype)


def _as_in_a_file(groups: Tensor, file_type: str) -> Tensor:
    """Pack weights into blocks of a GGUF file and unpack them again, with the file format's own library."""
    from gguf import GGMLQuantizationType, quants

    kind = GGMLQuantizationType[file_type]
    packed = quants.quantize(groups.cpu().numpy(), kind)
    return torch.from_numpy(quants.dequantize(packed, kind)).to(groups.device)


def _symmetric(groups: Tensor, bits: int) -> Tensor:
    top = 2 ** (bits - 1) - 1
    scale = _nonzero(groups.abs().amax(1, keepdim=True) / top)
    return (groups / scale).round().clamp(-top - 1, top) * scale


def _asymmetric(groups: Tensor, bits: int) -> Tensor:
    top = 2**bits - 1
    low = groups.amin(1, keepdim=True).clamp(max=0)
    high = groups.amax(1, keepdim=True).clamp(min=0)
    scale = _nonzero((high - low) / top)
    zero = (-low / scale).round()
    return ((groups / scale).round() + zero).clamp(0, top).sub(zero) * scale


def _nonzero(scale: Tensor) -> Tensor:
    """Replace the scale of a group of zeros by 1: any will do."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights that a quantiser rounds: all blocks' matrices (stacks of experts too), and no embeddings."""
    return [parameter for parameter in blocks(model).parameters() if parameter.ndim >= 2]


@contextmanager
def quantised(model: LanguageModel, grid: Grid) -> Iterator[LanguageModel]:
    """Round a model's weights while the block runs; afterwards its own weights are back, bit for bit.

    A model with an adapter is merged into a copy first: that is how it would be rounded and shipped.
    """
    rounded = merged_copy(model) if model.has_adapter else model
    chosen = matrices(rounded.base())
    originals = [parameter.data for parameter in chosen]
    try:
        with torch.no_grad():
            for parameter in chosen:
                parameter.data = round_to_nearest(parameter.data, grid)
        yield rounded
    finally:
        for parameter, original in zip(chosen, originals, strict=True):
            parameter.data = original
