"""Options of a model, and the three models of the published size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from letheon.core.errors import InputError

Variant = Literal["retention", "swat"]
OutputNorm = Literal["rms", "rowsum"]


@dataclass(frozen=True)
class Settings:
    """Options of a model; the defaults are the size of the paper's comparison.

    Attributes:
        variant: "retention" or "swat".
        gated: G1 for "retention", SwiGLU of the values for "swat".
        window: side of a window in cells, 7 as in Swin; None: the whole map, as in RMT.
        full: stages that attend to all cells in one matrix ("retention" without windows; RMT).
        decay: initial value and span by stage (RMT); None: γ = 1, no decay.
        balanced: whether "swat" has its slopes.
        layer_scale: first scale of the residual branches by stage; None: no scales.
    """

    variant: Variant = "retention"
    dims: Sequence[int] = (96, 192, 384, 576)
    depths: Sequence[int] = (4, 8, 25, 8)  # RMT-B and RMT-L
    heads: Sequence[int] = (6, 6, 12, 18)
    mlp_ratios: Sequence[float] = (4.0, 4.0, 3.0, 3.0)  # RMT-B and RMT-L
    gated: bool = True
    window: int | None = 7
    full: Sequence[bool] = (False, False, False, False)
    decay: Sequence[tuple[float, float]] | None = ((2.0, 4.0), (2.0, 4.0), (2.0, 6.0), (2.0, 6.0))  # RMT-S
    rotary: bool = True
    balanced: bool = True
    output_norm: OutputNorm = "rms"
    layer_scale: Sequence[float | None] = (None, None, 1e-6, 1e-6)  # RMT-B and RMT-L
    drop_path: float = 0.2

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise InputError(f"variant is {self.variant!r}", f"one of: {', '.join(get_args(Variant))}")
        if self.window is not None and self.window < 1:
            raise InputError(f"window is {self.window}", "give 1 or more, or None for all of the map")
        if any(full and (self.variant == "swat" or self.window) for full in self.full):
            raise InputError("one matrix over all cells", "needs the variant 'retention' and no windows")
        if any(dim % (2 * heads) for dim, heads in zip(self.dims, self.heads, strict=True)):
            raise InputError(f"dims {self.dims} with heads {self.heads}", "a head's width must be a whole, even number")


SIZES = {
    "retention": Settings(),
    "swat": Settings("swat"),
    # The baseline: no windows, no gate, whose parameters go into the feed-forward.
    "rmt": Settings(gated=False, window=None, full=(False, False, False, True), mlp_ratios=(4.5, 4.5, 3.5, 3.5)),
}
