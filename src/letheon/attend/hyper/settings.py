"""Options of HyperAttention: the paper's values, and values that suit a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from letheon.core.errors import InputError

Sampling = Literal["uniform", "stratified", "row_norm"]


@dataclass(frozen=True)
class Settings:
    """Options of HyperAttention.

    Attributes:
        block_size: keys per block of the sorted order; the block's queries attend to all of them.
        sample_size: sampled keys that stand for all others; 0 leaves the others out.
        min_seq_len: largest number of queries with exact attention, and the length of the causal recursion's leaves.
        lsh_num_projs: random directions whose signs make a code.
        sampling: `uniform` positions; `row_norm`, positions by ‖v‖², as in the paper's analysis; `stratified` (ours),
            one from each of as many equal stretches of the sorted keys.
        pin_first: first keys of the text that every query attends to exactly (ours; attention sinks lie there).
        pin_recent: keys nearest to the queries with exact attention, causal only (ours).
        centre: subtract a mean from queries and keys before hashing (ours): a shift of all keys changes the signs and
            not the softmax.
    """

    block_size: int = 256  # authors' code: 256
    sample_size: int = 256  # authors' code: 256
    min_seq_len: int = 4096  # authors' code: 4096
    lsh_num_projs: int = 7  # authors' code: 7
    sampling: Sampling = "uniform"  # authors' code
    pin_first: int = 0
    pin_recent: int = 0
    centre: bool = False

    def __post_init__(self) -> None:
        for name in ("block_size", "min_seq_len", "lsh_num_projs", "sample_size", "pin_first", "pin_recent"):
            least = int(name in ("block_size", "min_seq_len", "lsh_num_projs"))
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}", f"give {least} or more")
        if self.lsh_num_projs > 8:
            raise InputError(f"lsh_num_projs is {self.lsh_num_projs}: codes are bytes", "give 1 to 8")
        if self.sampling not in get_args(Sampling):
            raise InputError(f"sampling is {self.sampling!r}", f"one of: {', '.join(get_args(Sampling))}")

    @property
    def exact_up_to(self) -> int:
        """The largest number of queries with exact attention."""
        return self.min_seq_len


PAPER = Settings()
# For `attention="hyper"`: chosen by error and time on one passage of prose in SmolLM2 that no reported number is from.
# Below 2048 tokens exact attention is as fast; the first key holds up to half of a head's attention.
MODEL = Settings(
    block_size=128,
    sample_size=384,
    min_seq_len=2048,
    sampling="stratified",
    pin_first=32,
    pin_recent=96,
    centre=True,
)
