"""Curvature of a model's outputs on given rows: its Gauss-Newton matrix, one Kronecker-factored block a linear layer.

To second order, the mean KL(p_θ || p_θ+δ) of a predicted token is ½ δᵀGδ. With softmax outputs G is the Fisher matrix,
so its labels are drawn from the model itself; the data's own labels would give another matrix. A token enters a layer
as a and leaves it as s = Wa; with g the gradient of −log p(ŷ) with respect to s:

    kfac      A ⊗ S with A = E[aaᵀ] and S = E[ggᵀ], means over real tokens, as if a and g were independent.
    ekfac     the same eigenvectors, but along each pair of them the second moment of the rows' gradients.
    diagonal  that second moment along the weights themselves, without rotation.
    identity  no curvature at all.

Papers:  Martens and Grosse, K-FAC, arXiv 1503.05671; George et al., EK-FAC, arXiv 1806.03884.
Own code, because curvlinops knows no padding, and kronfluence (whose conventions are followed, and whose factors these
are for the same labels) asks for torchvision and puts modules of its own into the model; neither tracks `Conv1D`.
Differs: every kind is scaled to nats of one predicted token, so that one damping and one step size serve all of them
         (kronfluence has K-FAC a real token and EK-FAC a row). Eigenvectors and curvatures are kept in float32.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from letheon.core.atomic import atomic_folder, canonical_hash, is_whole
from letheon.core.errors import InputError, LetheonError
from letheon.core.model.hooks import labelled_head, on_backward
from letheon.core.model.models import LanguageModel, cache_folder
from letheon.core.model.passes import start_from
from letheon.core.progress import progress
from letheon.core.rows.encoding import Batch
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import sample_labels
from letheon.core.training.gradients import backward
from letheon.forget.curvature.linear import Linear

logger = logging.getLogger("letheon")

Kind = Literal["kfac", "ekfac", "diagonal", "identity"]
FILE = "factors.safetensors"
FORMAT = 1  # of what is kept in the cache, and of how it is computed
KEPT = 4  # fitted factors in the cache; the oldest beyond are removed
# With fewer tokens than this many times a layer's width its directions are poorly known, and some not at all.
TOKENS_PER_DIMENSION = 10


# The mathematics ----------------------------------------------------------------------------------------------------


def eigenbasis(matrix: Float[Tensor, "d d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Eigenvalues (none below 0) and eigenvectors (columns) of a covariance, computed in float64."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.clamp(min=0).to(matrix.dtype), vectors.to(matrix.dtype)


@dataclass(frozen=True)
class Block:
    """Curvature of one layer's weights [out, in]; a bias is one more column of `in`.

    Attributes:
        curvature: Λ [out, in], nats a predicted token, along the eigenvectors.
        left, right: eigenvectors of S [out, out] and of A [in, in]; None where there is no rotation.
    """

    curvature: Float[Tensor, "out in"]
    left: Float[Tensor, "out out"] | None = None
    right: Float[Tensor, "in in"] | None = None

    def rotated(self, matrix: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        """Q_Sᵀ M Q_A."""
        return matrix if self.left is None or self.right is None else self.left.T @ matrix @ self.right

    def precondition(self, gradient: Float[Tensor, "out in"], damping: float) -> Float[Tensor, "out in"]:
        """(G + λI)⁻¹ g: Q_S [ (Q_Sᵀ g Q_A) / (Λ + λ) ] Q_Aᵀ."""
        divided = self.rotated(gradient) / (self.curvature + damping)
        return divided if self.left is None or self.right is None else self.left @ divided @ self.right.T

    def quadratic(self, direction: Float[Tensor, "out in"]) -> float:
        """vᵀGv = Σ Λ (Q_Sᵀ v Q_A)²: twice the KL that the step v costs, nats a predicted token."""
        return float((self.curvature * self.rotated(direction).square()).sum(dtype=torch.float64))


# Fitting ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Passed:
    """One forward pass with labels drawn from its own outputs.

    Attributes:
        loss: −Σ log p(ŷ), nats, summed over what is predicted.
        real: [batch, length], which positions hold a real token; None where all do.
        predictions: how many labels were drawn.
        rows: how many rows it took.
    """

    loss: Tensor
    real: Tensor | None
    predictions: int
    rows: int


Passes = Callable[[], Iterable[Passed]]


@dataclass
class Factors:
    """The curvature of some layers on some rows.

    Attributes:
        kind: how it was factored.
        blocks: by the layer's name. A layer that no prediction depends on has none.
        tokens, predictions: how many real tokens and drawn labels it was computed from.
    """

    kind: Kind
    blocks: dict[str, Block] = field(default_factory=dict)
    tokens: int = 0
    predictions: int = 0

    def predicted_kl(self, change: Mapping[str, Tensor]) -> float:
        """½ δᵀGδ, nats a predicted token, of a change [out, in] of each layer."""
        return 0.5 * sum(block.quadratic(change[name]) for name, block in self.blocks.items())


def fit(layers: Mapping[str, Linear], passes: Passes, kind: Kind, total: int = 0) -> Factors:
    """Fit the curvature of layers.

    Args:
        passes: runs over the rows anew at each call; its passes are taken backward here.
        total: rows in one run over them, for the progress bar.
    """
    if kind == "identity":
        some = {name: torch.ones(layer.shape, device=layer.weight.device) for name, layer in layers.items()}
        return Factors(kind, {name: Block(ones) for name, ones in some.items()})
    if kind == "diagonal":
        return _with_second_moments(layers, dict.fromkeys(layers, (None, None)), passes, kind, total)
    sums = covariances(layers, passes, f"curvature ({kind})", total)
    factors = Factors(kind, tokens=sums.tokens, predictions=sums.predictions)
    bases: dict[str, tuple[Tensor | None, Tensor | None]] = {}
    for name in layers:
        if not bool(sums.left[name].any() and sums.right[name].any()):
            continue
        of_s, left = eigenbasis(sums.left[name] / sums.tokens)
        of_a, right = eigenbasis(sums.right[name] / sums.tokens)
        factors.blocks[name] = Block(torch.outer(of_s, of_a) * (sums.tokens / sums.predictions), left, right)
        bases[name] = (left, right)
    if kind == "kfac":
        return factors
    return _with_second_moments({name: layers[name] for name in bases}, bases, passes, kind, total)


def _with_second_moments(
    layers: Mapping[str, Linear],
    bases: Mapping[str, tuple[Tensor | None, Tensor | None]],
    passes: Passes,
    kind: Kind,
    total: int,
) -> Factors:
    """Λ_ij = Σ over rows of (Q_Sᵀ G_row Q_A)²_ij, a predicted token; G_row the gradient of a row's summed loss."""
    sums = _SecondMoments(layers, bases)
    _run(layers, passes, sums, f"curvature ({kind}, rows)", total)
    factors = Factors(kind, tokens=sums.tokens, predictions=sums.predictions)
    for name, (left, right) in bases.items():
        if bool(sums.squares[name].any()):
            factors.blocks[name] = Block(sums.squares[name] / sums.predictions, left, right)
    return factors


def covariances(
    layers: Mapping[str, Linear], passes: Passes, title: str = "covariances", total: int = 0
) -> Covariances:
    """Σ aaᵀ and Σ ggᵀ of every layer from one run over the rows."""
    sums = Covariances(layers)
    _run(layers, passes, sums, title, total)
    return sums


class _Sums:
    """What is added up over passes; counts real tokens and predictions."""

    def __init__(self, layers: Mapping[str, Linear]) -> None:
        self.layers = layers
        self.real: Tensor | None = None
        self.tokens = self.predictions = 0

    def add(self, name: str, entered: Tensor, gradient: Tensor) -> None:
        """What entered a layer, [rows, ..., in], and the gradient of what left it, [rows, ..., out]."""
        raise TypeError(f"{type(self).__name__} does not say what it adds up")


class Covariances(_Sums):
    """Σ aaᵀ (`right`) and Σ ggᵀ (`left`) over real tokens, by the layer's name."""

    def __init__(self, layers: Mapping[str, Linear]) -> None:
        super().__init__(layers)
        self.left, self.right = {}, {}
        for name, layer in layers.items():
            device, (rows, columns) = layer.weight.device, layer.shape
            self.left[name] = torch.zeros(rows, rows, device=device)
            self.right[name] = torch.zeros(columns, columns, device=device)

    def add(self, name: str, entered: Tensor, gradient: Tensor) -> None:
        if self.real is not None:
            entered, gradient = entered[self.real], gradient[self.real]
        a = self.layers[name].entered(entered.flatten(0, -2)).float()
        g = gradient.flatten(0, -2).float()
        self.right[name].addmm_(a.T, a)
        self.left[name].addmm_(g.T, g)


class _SecondMoments(_Sums):
    """Σ over rows of the squared gradient of each row, in given bases; gradients at padding are zero."""

    def __init__(self, layers: Mapping[str, Linear], bases: Mapping[str, tuple[Tensor | None, Tensor | None]]) -> None:
        super().__init__(layers)
        self.bases = bases
        self.squares = {name: torch.zeros(layer.shape, device=layer.weight.device) for name, layer in layers.items()}

    def add(self, name: str, entered: Tensor, gradient: Tensor) -> None:
        left, right = self.bases[name]
        a, g = self.layers[name].entered(entered).float(), gradient.float()
        a, g = a if right is None else a @ right, g if left is None else g @ left
        for one_a, one_g in zip(a, g, strict=True):
            self.squares[name] += (one_g.reshape(-1, g.shape[-1]).T @ one_a.reshape(-1, a.shape[-1])).square_()


def _run(layers: Mapping[str, Linear], passes: Passes, sums: _Sums, title: str, total: int) -> None:
    """One run over the rows: forward, labels drawn, backward; gradients of activations only, of no weight."""
    modules = {name: layer.module for name, layer in layers.items()}
    done = 0
    with torch.enable_grad(), on_backward(modules, sums.add), progress(title, total) as advance:
        for passed in passes():
            sums.real = passed.real
            backward(passed.loss)
            sums.tokens += passed.predictions if passed.real is None else int(passed.real.sum())
            sums.predictions += passed.predictions
            done += passed.rows
            advance(done)
    if not sums.predictions:
        raise InputError("the rows to fit the curvature on predict no token", "give rows with answers")


# A language model's passes ------------------------------------------------------------------------------------------


def sampled_passes(
    model: LanguageModel,
    batches: Sequence[Batch],
    seed: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Passed]:
    """Forward passes over rows, with labels drawn from the model at the positions that predict an answer token.

    A row's labels depend on the seed and its number, not on the batch that it comes in. The tokens that rows begin with
    are not run once for all of them, as elsewhere: every row's own activations are counted.

    Args:
        products: the precision of matrix products.
    """
    still = [parameter for parameter in model.model.parameters() if parameter.requires_grad]
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        for batch in batches:
            row, column = (batch.labels[:, 1:] != -100).nonzero(as_tuple=True)
            if len(row) == 0:
                continue
            with autocast():
                logits = _logits(model, batch, row, column)
            uniform = torch.cat(
                [_uniform(seed, number, int((row == i).sum())) for i, number in enumerate(batch.index.tolist())]
            )
            drawn = sample_labels(logits.detach(), uniform.to(logits.device))
            loss = functional.cross_entropy(logits, drawn, reduction="sum")
            yield Passed(loss, batch.attention_mask.bool(), len(drawn), len(batch))
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def _logits(model: LanguageModel, batch: Batch, row: Tensor, column: Tensor) -> Tensor:
    base, frozen = model.base(), model.frozen
    with ExitStack() as stack:
        if frozen is not None:
            stack.enter_context(start_from(base, frozen.below, frozen.states_of(base, batch)))
        stack.enter_context(labelled_head(base, row, column))
        output = base(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return output.logits[0].float()


def _uniform(seed: int, number: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(stream_seed(seed, "labels of the curvature", number))
    return torch.rand(size, generator=generator)


def warn_of_few_tokens(factors: Factors, layers: Mapping[str, Linear]) -> None:
    """Say when there are too few tokens to know the widest layer's directions."""
    widest = max(layer.shape[1] for layer in layers.values())
    if factors.kind != "identity" and factors.tokens < TOKENS_PER_DIMENSION * widest:
        logger.warning(
            "the curvature was computed from %d tokens for layers %d wide (%d or more are better): "
            "raise the damping or set a KL budget",
            factors.tokens,
            widest,
            TOKENS_PER_DIMENSION * widest,
        )


# Files --------------------------------------------------------------------------------------------------------------


def save_factors(factors: Factors, folder: Path) -> Path:
    """Write `FOLDER/factors.safetensors`; whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for name, block in factors.blocks.items():
        parts = {"curvature": block.curvature, "left": block.left, "right": block.right}
        tensors |= {f"{name}/{part}": tensor.contiguous() for part, tensor in parts.items() if tensor is not None}
    size = sum(tensor.nbytes for tensor in tensors.values())
    facts = {"kind": factors.kind, "tokens": str(factors.tokens), "predictions": str(factors.predictions)}
    with atomic_folder(folder, needed_bytes=int(1.05 * size)) as temporary:
        save_file(tensors, temporary / FILE, metadata=facts)
    return folder / FILE


def load_factors(folder: Path, device: str = "cpu") -> Factors:
    """Read what `save_factors` wrote.

    Raises:
        InputError: no such file, or another content.
    """
    try:
        with safe_open(folder / FILE, framework="pt", device=device) as file:
            facts, names = file.metadata(), list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
        factors = Factors(facts["kind"], {}, int(facts["tokens"]), int(facts["predictions"]))
        for name in sorted({name.rpartition("/")[0] for name in names}):
            parts = (tensors.get(f"{name}/{part}") for part in ("left", "right"))
            factors.blocks[name] = Block(tensors[f"{name}/curvature"], *parts)
    except Exception as error:  # the reader raises kinds of its own
        raise InputError(f"{folder} holds no curvature factors: {error}", "fit them again") from None
    return factors


def cached(facts: object, make: Callable[[], Factors], device: str = "cpu") -> Factors:
    """Factors from the user's cache, or made and kept there.

    Args:
        facts: everything that decides them (the weights' hash, the rows, the kind, the seed), ready for JSON.
    """
    place = cache_folder() / "kronecker" / canonical_hash([FORMAT, facts])[:24]
    if is_whole(place, hashes=True):
        return load_factors(place, device)
    factors = make()
    try:
        save_factors(factors, place)
        _tidy(place.parent)
    except LetheonError as error:
        logger.warning("the curvature was not kept for another run: %s", error.problem)
    return factors


def _tidy(folder: Path) -> None:
    whole = sorted((entry for entry in folder.iterdir() if is_whole(entry)), key=lambda entry: entry.stat().st_mtime)
    for old in whole[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
