"""The causal model of binding: a mixture of a positional, a lexical and a reflexive mechanism.

Paper:   Mixing Mechanisms: How Language Models Retrieve Bound Entities In-Context, arXiv 2510.06182. For the groups
         a = 0 .. n−1 that an intervention points to by position p, by word k and by pointer r:

             Y[a] = w_pos · exp(−(a − p)² / (2 σ(p)²)) + w_lex[k] · 1{a = k} + w_ref[r] · 1{a = r},
             σ(p) = α (p/n)² + β (p/n) + γ,   P = softmax(Y),

         fitted to the mean distribution of each cell (p, k, r) by the Jensen-Shannon divergence in bits.
Differs: none known; the Gaussian is not normalised, as in the authors' code.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.statistics import Estimate, estimate_mean

Cell = tuple[int, int, int]
# Terms of the mixture and of its ablations; `one_hot` replaces the Gaussian by a single group.
FULL = frozenset({"positional", "lexical", "reflexive"})
ABLATIONS = {
    "full": FULL,
    "without positional": FULL - {"positional"},
    "without lexical": FULL - {"lexical"},
    "without reflexive": FULL - {"reflexive"},
    "positional only": frozenset({"positional"}),
    "one-hot position": frozenset({"positional", "one_hot"}),
    "uniform": frozenset[str](),
}
LEAST_CELLS = 10


def jensen_shannon(first: Float[Tensor, "*cells n"], second: Float[Tensor, "*cells n"]) -> Float[Tensor, "*cells"]:
    """Compute the Jensen-Shannon divergence in bits: 0 for equal distributions, 1 for disjoint ones."""
    middle = (first + second) / 2

    def divergence(p: Tensor) -> Tensor:
        return (torch.xlogy(p, p) - torch.xlogy(p, middle)).sum(-1)

    return (divergence(first) + divergence(second)) / (2 * torch.log(torch.tensor(2.0)))


class Mixture(torch.nn.Module):
    """The causal model, or one of its ablations.

    Args:
        n: number of groups.
        terms: which terms are present, see `ABLATIONS`.
    """

    def __init__(self, n: int, terms: frozenset[str] = FULL) -> None:
        super().__init__()
        self.n, self.terms = n, terms
        self.w_pos = torch.nn.Parameter(torch.ones(()))
        self.w_lex = torch.nn.Parameter(torch.zeros(n))
        self.w_ref = torch.nn.Parameter(torch.zeros(n))
        self.spread = torch.nn.Parameter(torch.tensor([0.0, 0.0, 3.0]))  # α, β, γ

    def sigma(self, p: Tensor) -> Tensor:
        """Compute the width of the positional term at group p."""
        share = p / self.n
        alpha, beta, gamma = self.spread
        return alpha * share**2 + beta * share + gamma + 1e-6

    def forward(self, cells: Int[Tensor, "cells 3"]) -> Float[Tensor, "cells n"]:
        """Compute the logarithm of P for each cell (p, k, r)."""
        p, k, r = cells.T
        group = torch.arange(self.n)[None]
        logits = torch.zeros(len(cells), self.n)
        if "one_hot" in self.terms:
            logits = logits + self.w_pos * (group == p[:, None])
        elif "positional" in self.terms:
            logits = logits + self.w_pos * torch.exp(
                -((group - p[:, None]) ** 2) / (2 * self.sigma(p.float())[:, None] ** 2)
            )
        if "lexical" in self.terms:
            logits = logits + self.w_lex[k][:, None] * (group == k[:, None])
        if "reflexive" in self.terms:
            logits = logits + self.w_ref[r][:, None] * (group == r[:, None])
        return logits.log_softmax(-1)


@dataclass(frozen=True)
class Fit:
    """A fitted mixture and its similarity on held-out cells.

    Attributes:
        by_cell: 1 − Jensen-Shannon divergence (bits) of each held-out cell, per ablation of the mixture; `permuted` is
            the full mixture against targets whose groups are permuted, a control near or below uniform.
        cells: number of cells: train, validation, held out.
        mixture: the full mixture.
    """

    by_cell: dict[str, list[float]]
    cells: tuple[int, int, int]
    mixture: Mixture = field(repr=False)

    @property
    def similarity(self) -> dict[str, float]:
        """The mean similarity per ablation."""
        return {name: sum(cells) / len(cells) for name, cells in self.by_cell.items() if name != "permuted"}

    @property
    def permuted(self) -> float:
        """The mean similarity with permuted groups."""
        return sum(self.by_cell["permuted"]) / len(self.by_cell["permuted"])

    @property
    def best_ablation(self) -> str:
        """The ablation with the largest similarity."""
        return max((name for name in ABLATIONS if name != "full"), key=lambda name: self.similarity[name])

    def difference(self, first: str, second: str) -> Estimate:
        """Estimate the first one's similarity minus the second one's, paired by held-out cell."""
        return estimate_mean([a - b for a, b in zip(self.by_cell[first], self.by_cell[second], strict=True)])


def fit_one(
    n: int,
    terms: frozenset[str],
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    *,
    epochs: int = 5000,
    rate: float = 0.05,
    patience: int = 500,
) -> Mixture:
    """Fit a mixture to (cells, distributions) by Adam; stop when the validation's divergence no longer falls."""
    mixture = Mixture(n, terms)
    if not terms:
        return mixture
    best, state, waited = float("inf"), mixture.state_dict(), 0
    optimizer = torch.optim.Adam(mixture.parameters(), lr=rate)
    for _ in range(epochs):
        optimizer.zero_grad()
        jensen_shannon(mixture(train[0]).exp(), train[1]).mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        with torch.no_grad():
            divergence = float(jensen_shannon(mixture(validation[0]).exp(), validation[1]).mean())
        if divergence < best - 1e-6:
            best, waited = divergence, 0
            state = {name: value.clone() for name, value in mixture.state_dict().items()}
        elif (waited := waited + 1) >= patience:
            break
    mixture.load_state_dict(state)
    return mixture


def fit_mixture(
    means: Mapping[Cell, Float[Tensor, " n"]], *, seed: int = 0, epochs: int = 5000, patience: int = 500
) -> Fit:
    """Fit the mixture and its ablations to the mean distributions of cells, and test them on held-out cells.

    Cells are split 70 / 15 / 15 into train, validation and held out.

    Raises:
        InputError: fewer than ten cells.
    """
    if len(means) < LEAST_CELLS:
        raise InputError(
            f"{len(means)} cells (p, k, r) were measured",
            f"draw more samples: at least {LEAST_CELLS} cells are needed",
        )
    cells = sorted(means)
    random.Random(seed).shuffle(cells)
    first, second = int(0.7 * len(cells)), int(0.85 * len(cells))
    parts = [cells[:first], cells[first:second], cells[second:]]
    data = [_tensors(part, means) for part in parts]
    n = len(data[0][1][0])
    fitted = {
        name: fit_one(n, terms, data[0], data[1], epochs=epochs, patience=patience) for name, terms in ABLATIONS.items()
    }
    with torch.no_grad():
        by_cell = {
            name: (1 - jensen_shannon(one(data[2][0]).exp(), data[2][1])).tolist() for name, one in fitted.items()
        }
        permuted = data[2][1].roll(1 + n // 2, 1)
        by_cell["permuted"] = (1 - jensen_shannon(fitted["full"](data[2][0]).exp(), permuted)).tolist()
    return Fit(by_cell, (len(parts[0]), len(parts[1]), len(parts[2])), fitted["full"])


def _tensors(cells: Sequence[Cell], means: Mapping[Cell, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.tensor(cells), torch.stack([means[cell] for cell in cells])


def cell_means(cells: Sequence[Cell], distributions: Float[Tensor, "samples n"]) -> dict[Cell, Float[Tensor, " n"]]:
    """Average the distributions of the samples of each cell."""
    rows: dict[Cell, list[Tensor]] = {}
    for cell, row in zip(cells, distributions, strict=True):
        rows.setdefault(cell, []).append(row)
    return {cell: torch.stack(found).mean(0) for cell, found in rows.items()}
