"""Null spaces of a matrix's inputs: changes of the matrix that (nearly) preserve its outputs on given inputs.

W k stays the same for every input k of some rows exactly if ΔW has no part in the span of those inputs. Taken
strictly that leaves little or nothing; relaxed, only the directions in which the inputs have energy are protected. With
C = K Kᵀ/n = U diag(s) Uᵀ over inputs K, the kept projector is P = U_small U_smallᵀ, and ΔW P is what may be done.

Sources: AlphaEdit, arXiv 2410.02355 (an absolute threshold on s, 2e-2); GPM, arXiv 2103.09762 (a share of the energy,
         and protected directions that are added task after task).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.model.hooks import by_row, on_inputs
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import stop_after
from letheon.core.model.sites import blocks, is_matrix, is_transposed, sides
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.prefix_cache import above_frozen

Mode = Literal["energy", "absolute"]
# A direction that is left over this share of its length by the protected ones adds nothing to them.
SMALLEST_REST = 1e-6
# float32 finds each eigenvalue to some 5e-7 of the largest, so that thousands of them miss a thousandth of the energy:
# little where a share of it from SINGLE on is free.
SINGLE = 0.01


def precision(mode: Mode, threshold: float) -> torch.dtype:
    """The number type in which second moments and their eigenvectors are found."""
    return torch.float32 if mode == "energy" and threshold >= SINGLE else torch.float64


def kept_directions(spectrum: Float[Tensor, " inputs"], mode: Mode, threshold: float) -> int:
    """Number of the smallest eigenvalues (given in ascending order) that count as the null space.

    `absolute`: those below the threshold. `energy`: as many as hold together at most that share of the sum. Zeros
    always count: there the inputs have nothing.
    """
    small = spectrum < threshold if mode == "absolute" else spectrum.cumsum(0) <= threshold * spectrum.sum()
    return int((small | (spectrum == 0)).sum())


@dataclass(frozen=True)
class NullSpace:
    """The changes of a matrix that leave protected inputs' outputs alone.

    Attributes:
        protected: [inputs, rank] orthonormal directions that no change may act on: U without U_small.
        spectrum: [inputs] eigenvalues of the covariance, ascending, float64.
        transposed: the weight lies as [inputs, outputs] (GPT-2).
    """

    protected: Tensor
    spectrum: Tensor
    transposed: bool = False

    @classmethod
    def of(cls, covariance: Float[Tensor, "inputs inputs"], mode: Mode, threshold: float) -> NullSpace:
        """Compute the null space of a covariance K Kᵀ/n; in float64, eigenvalues within rounding count as zero."""
        found, directions = torch.linalg.eigh(covariance.to(precision(mode, threshold)))
        spectrum = found.double().clamp(min=0)
        if found.dtype == torch.float64:
            rounding = len(spectrum) * torch.finfo(torch.float64).eps * float(spectrum[-1])
            spectrum = torch.where(spectrum > rounding, spectrum, 0.0)
        kept = kept_directions(spectrum, mode, threshold)
        return cls(directions[:, kept:].float().contiguous(), spectrum)

    @property
    def kept(self) -> int:
        """Dimensions of the null space."""
        return self.protected.shape[0] - self.protected.shape[1]

    def blocked(self, change: Tensor) -> Tensor:
        """The part of a change of the weight that acts on protected inputs: ΔW (I - P), in the weight's shape."""
        basis = self.protected
        if self.transposed:
            return basis @ (basis.T @ change)
        return (change @ basis) @ basis.T

    def project(self, change: Tensor) -> Tensor:
        """ΔW P: a change without its effect on protected inputs."""
        return change - self.blocked(change)

    def protecting(self, directions: Float[Tensor, "inputs more"]) -> NullSpace:
        """A null space that protects further directions too (of a later task, or single inputs)."""
        more = directions.double()
        more = more / more.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        basis = self.protected.double()
        for _ in range(2):  # the second pass removes what rounding left in the first
            more = more - basis @ (basis.T @ more)
        left, size, _ = torch.linalg.svd(more, full_matrices=False)
        return replace(self, protected=torch.cat([basis, left[:, size > SMALLEST_REST]], 1).float())


class Inputs:
    """Second moments of a matrix's inputs, summed over passes.

    A row's first token is kept apart: in many models it is an attention sink, whose activations are hundreds of times
    larger than all others and would pass for nearly all of the energy. Its mean direction is protected in any case.
    """

    def __init__(self, width: int, device: torch.device, dtype: torch.dtype = torch.float64) -> None:
        self.sum = torch.zeros(width, width, dtype=dtype, device=device)
        self.first = torch.zeros(width, dtype=torch.float64, device=device)
        self.tokens = 0

    def add(self, inputs: Float[Tensor, "rows length inputs"], real: Bool[Tensor, "rows length"]) -> None:
        """Add the real tokens of some rows."""
        later = inputs[:, 1:][real[:, 1:]].to(self.sum.dtype)
        self.sum.addmm_(later.T, later)
        self.first += inputs[:, 0].double().sum(0)
        self.tokens += len(later)

    def null_space(self, mode: Mode, threshold: float, transposed: bool = False) -> NullSpace:
        """The null space of the inputs that were added."""
        space = NullSpace.of(self.sum / max(self.tokens, 1), mode, threshold)
        return replace(space.protecting(self.first[:, None]), transposed=transposed)


def matrices_among(model: LanguageModel, parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Module]:
    """Find the matrices in the model's blocks whose weight is one of the parameters, by the parameter's name."""
    inside = {id(module) for block in blocks(model.base()) for module in block.modules() if is_matrix(module)}
    named = {f"{name}.weight": module for name, module in model.model.named_modules() if id(module) in inside}
    return {name: module for name, module in named.items() if name in parameters}


@torch.no_grad()
def null_spaces(
    model: LanguageModel, batches: Iterable[Batch], matrices: Mapping[str, nn.Module], mode: Mode, threshold: float
) -> dict[str, NullSpace]:
    """The null space of each matrix's inputs on some rows; no layer above the matrices is run.

    Matrices that are given the same tensor one after the other (queries, keys, values) share one null space.

    Raises:
        InputError: a matrix does not see every token (an expert of a mixture).
    """
    stack = blocks(model.base())
    inside = [{id(module) for module in block.modules()} for block in stack]
    highest = max(i for i, ids in enumerate(inside) if any(id(matrix) in ids for matrix in matrices.values()))
    gathered: dict[str, Inputs] = {}
    dtype = precision(mode, threshold)
    last: tuple[Tensor, Inputs] | None = None
    real = torch.zeros(0, 0, dtype=torch.bool)

    def see(name: str, inputs: Tensor) -> None:
        nonlocal last
        if last is None or inputs is not last[0]:
            whole = by_row(inputs, *real.shape)
            if whole is None:
                raise InputError(f"{name} does not see every token of a row", "let other weights move")
            found = gathered.get(name) or Inputs(inputs.shape[-1], model.device, dtype)
            found.add(whole, real)
            last = inputs, found
        gathered[name] = last[1]

    base, frozen = model.base(), model.frozen
    with on_inputs(matrices, see):
        for batch in batches:
            real = batch.attention_mask.bool()
            entering = frozen.states_of(base, batch) if frozen is not None else None
            with above_frozen(model, entering), stop_after(base, highest):
                base(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    spaces: dict[tuple[Inputs, bool], NullSpace] = {}
    found = {}
    for name, matrix in matrices.items():
        inputs, lies = gathered.get(name) or Inputs(sides(matrix)[1], model.device, dtype), is_transposed(matrix)
        if (inputs, lies) not in spaces:
            spaces[inputs, lies] = inputs.null_space(mode, threshold, lies)
        found[name] = spaces[inputs, lies]
    return found
