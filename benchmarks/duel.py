"""One training step on both sides: the rows, the step, and the check that both sides do the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import Compared, author_rows, compare, in_turn
from letheon.core.errors import LetheonError
from letheon.core.model.models import LanguageModel, load
from letheon.core.model.passes import FrozenLayers
from letheon.core.model.sites import blocks
from letheon.core.rows.encoding import Batch
from letheon.forget.parts import Objective, Pair, PairIndices, Rows
from letheon.forget.recipe_job import make_pairs

LOSS, COSINE = 2e-5, 0.99999
# bfloat16 keeps 8 bits: its gradient is held to what training tolerates, not to float32's rounding
LOSS_BFLOAT16, COSINE_BFLOAT16 = 2e-2, 0.98
MEETING: PairIndices = ([0, 1, 2, 3], [0, 1, 2, 3])


@dataclass
class Case:
    """A model and the rows.

    Attributes:
        first, last: the layers whose down projections move in `rmu_layers`; RMU reads the last.
        once: seconds of what is computed once a run, by what it is.
    """

    model: LanguageModel
    rows: Rows
    pair: Pair
    first: int
    last: int
    once: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> Case:
        """The named model with the rows in its tokens."""
        model = load(name)
        examples, encoder = author_rows(), model.encoder()
        rows = Rows(model, examples[:4], encoder.encode_all(examples[:4]), encoder.encode_all(examples[4:]))
        first, last = (5, 7) if len(blocks(model.base())) > 8 else (1, 2)
        return cls(model, rows, make_pairs(rows, MEETING, 0, 1, 0)[0], first, last)

    def prepared(self, what: str, objective: Objective) -> Objective:
        """The objective after its work of once a run, which is timed."""
        start = time.perf_counter()
        objective.prepare(self.model, self.rows, [MEETING])
        self.once[what] = time.perf_counter() - start
        return objective

    def halves(self) -> tuple[Batch, Batch]:
        """The forget and the retain rows."""
        if self.pair.forget is None or self.pair.retain is None:
            raise LetheonError("a half of the pair is missing", "this is a fault: report it")
        return self.pair.forget, self.pair.retain

    def frozen_copy(self) -> Any:
        """The second model that the field's code keeps in memory."""
        return deepcopy(self.model.base()).requires_grad_(False)

    def down_projections(self) -> dict[str, nn.Parameter]:
        """The weights that the WMDP experiment moves."""
        chosen = [f".{layer}.mlp.down_proj." for layer in range(self.first, self.last + 1)]
        named = self.model.base().named_parameters()
        return {name: weight for name, weight in named if any(part in name for part in chosen)}


@torch.no_grad()
def moved(parameters: Mapping[str, nn.Parameter]) -> None:
    """Move weights by a hundredth of their spread, as a few steps do: at the reference itself losses are trivial."""
    torch.manual_seed(0)
    for weight in parameters.values():
        weight.add_(0.01 * weight.std(correction=0) * torch.randn_like(weight))


@contextmanager
def only(model: LanguageModel, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Within the block, gradients are computed for these parameters alone, as the training loop does."""
    chosen = set(map(id, parameters.values()))
    for weight in model.base().parameters():
        weight.requires_grad_(id(weight) in chosen)
    try:
        yield
    finally:
        for weight in model.base().parameters():
            weight.requires_grad_(True)


@dataclass
class Step:
    """One forward and backward pass (the forward one `within` a context); leaves the gradients on the weights."""

    case: Case
    loss: Callable[[], Tensor | None]
    within: Callable[[], AbstractContextManager[object]] = nullcontext
    parameters: Mapping[str, nn.Parameter] | None = None  # None: all
    frozen: FrozenLayers | None = None

    def __call__(self) -> float:
        model = self.case.model
        model.base().zero_grad(set_to_none=True)
        model.frozen = self.frozen
        with nullcontext() if self.parameters is None else only(model, self.parameters):
            with self.within():
                loss = self.loss()
            if loss is None:
                raise LetheonError("the step has no loss", "this is a fault: report it")
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        model.frozen = None
        return float(loss.detach())


@dataclass
class Duel:
    """Two steps that should do the same, and the weights whose gradients they share."""

    theirs: Step
    ours: Step
    parameters: Mapping[str, nn.Parameter]
    loss: float = LOSS
    cosine: float = COSINE

    def check(self) -> str:
        """Both once (which also warms up caches): raises when they differ, else says how little they do."""
        first = self.theirs()
        gradients = [_gradient(weight) for weight in self.parameters.values()]
        second = self.ours()
        found = [_gradient(weight) for weight in self.parameters.values()]
        cosine = _product(gradients, found) / (_product(gradients, gradients) * _product(found, found)) ** 0.5
        off = abs(first - second) / abs(first)
        if not (off <= self.loss and cosine >= self.cosine):
            raise LetheonError(
                f"the two sides differ: losses {first:.8g} and {second:.8g}, cosine of gradients {cosine:.8f}",
                "a ratio between different computations says nothing: mend this first",
            )
        return f"loss ±{max(off, 1e-8):.0e}, cosine 1−{max(1 - cosine, 1e-12):.0e}"

    def timed(self, repeats: int) -> Compared:
        """The check, then both in turn."""
        note = self.check()
        seconds = in_turn({"theirs": self.theirs, "ours": self.ours}, repeats)
        return compare(seconds["theirs"], seconds["ours"], note)


def _gradient(weight: nn.Parameter) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def _product(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Their inner product, summed in float64: the cosine is wanted to better than 1e-5."""
    return sum(float(torch.sum(x * y, dtype=torch.float64)) for x, y in zip(a, b, strict=True))
