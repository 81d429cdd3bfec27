"""Fitting Kronecker factors: forward passes with labels drawn from the model, and sums over their backward passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.core.model.hooks import by_row, labelled_head, on_backward
from letheon.core.model.models import LanguageModel
from letheon.core.progress import progress
from letheon.core.rows.encoding import Batch
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import sample_labels
from letheon.core.scoring.prefix_cache import above_frozen
from letheon.core.training.gradients import backward
from letheon.forget.curvature.kronecker import Block, Factors, Kind, eigenbasis
from letheon.forget.curvature.linear import Linear

logger = logging.getLogger("letheon")

# With fewer tokens than this many times a layer's width its directions are poorly known, and some not at all.
TOKENS_PER_DIMENSION = 10


@dataclass(frozen=True)
class Passed:
    """One forward pass with labels drawn from its own outputs.

    Attributes:
        loss: −Σ log p(ŷ), nats, summed over the predictions.
        real: [batch, length], true at real tokens; None if all are.
        predictions: number of drawn labels.
        rows: number of rows.
    """

    loss: Tensor
    real: Tensor | None
    predictions: int
    rows: int


Passes = Callable[[], Iterable[Passed]]


def fit(layers: Mapping[str, Linear], passes: Passes, kind: Kind, total: int = 0) -> Factors:
    """Fit the curvature of layers.

    Args:
        passes: runs over the rows anew at each call; `fit` backpropagates its losses.
        total: rows in one run, for the progress bar.
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
    """Λ_ij = Σ over rows of (Q_Sᵀ G_row Q_A)²_ij per predicted token; G_row the gradient of a row's summed loss."""
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
    """Base of sums over passes; it counts real tokens and predictions."""

    def __init__(self, layers: Mapping[str, Linear]) -> None:
        self.layers = layers
        self.real: Tensor | None = None
        self.tokens = self.predictions = 0

    def add(self, name: str, entered: Tensor, gradient: Tensor) -> None:
        """Add a layer's input, [rows, ..., in], and the gradient of its output, [rows, ..., out]."""
        raise TypeError(f"{type(self).__name__} adds nothing up: write add()")


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
            entered, gradient = (_whole(name, part, self.real)[self.real] for part in (entered, gradient))
        a = self.layers[name].entered(entered.flatten(0, -2)).float()
        g = gradient.flatten(0, -2).float()
        self.right[name].addmm_(a.T, a)
        self.left[name].addmm_(g.T, g)


class _SecondMoments(_Sums):
    """Sum of squared row gradients in given bases; gradients at padding are zero."""

    def __init__(self, layers: Mapping[str, Linear], bases: Mapping[str, tuple[Tensor | None, Tensor | None]]) -> None:
        super().__init__(layers)
        self.bases = bases
        self.squares = {name: torch.zeros(layer.shape, device=layer.weight.device) for name, layer in layers.items()}

    def add(self, name: str, entered: Tensor, gradient: Tensor) -> None:
        left, right = self.bases[name]
        if self.real is not None:
            entered, gradient = (_whole(name, part, self.real) for part in (entered, gradient))
        a, g = self.layers[name].entered(entered).float(), gradient.float()
        a, g = a if right is None else a @ right, g if left is None else g @ left
        for one_a, one_g in zip(a, g, strict=True):
            self.squares[name] += (one_g.reshape(-1, g.shape[-1]).T @ one_a.reshape(-1, a.shape[-1])).square_()


def _whole(name: str, part: Tensor, real: Tensor) -> Tensor:
    """What a layer saw as [rows, length, width].

    Raises:
        InputError: the layer did not see every token of every row.
    """
    whole = by_row(part, *real.shape)
    if whole is None:
        raise InputError(f"{name} does not see every token of a row", "let other weights move")
    return whole


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


def warn_of_few_tokens(factors: Factors, layers: Mapping[str, Linear]) -> None:
    """Warn if there are too few tokens to know the widest layer's directions."""
    widest = max(layer.shape[1] for layer in layers.values())
    if factors.kind != "identity" and factors.tokens < TOKENS_PER_DIMENSION * widest:
        logger.warning(
            "the curvature was computed from %d tokens for layers %d wide (%d or more are better): "
            "raise the damping or set a KL budget",
            factors.tokens,
            widest,
            TOKENS_PER_DIMENSION * widest,
        )


# A language model's passes ------------------------------------------------------------------------------------------


def sampled_passes(
    model: LanguageModel,
    batches: Sequence[Batch],
    seed: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Passed]:
    """Forward passes over rows, with labels drawn from the model at the positions that predict an answer token.

    A row's labels depend on the seed and its number, not on its batch. The rows' common first tokens are run anew for
    every row (elsewhere they are run once), so that every row's own activations are counted.

    Args:
        autocast: makes the context that sets the precision of matrix products.
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
    entering = frozen.states_of(base, batch) if frozen is not None else None
    with above_frozen(model, entering), labelled_head(base, row, column):
        output = base(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return output.logits[0].float()


def _uniform(seed: int, number: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(stream_seed(seed, "labels of the curvature", number))
    return torch.rand(size, generator=generator)
