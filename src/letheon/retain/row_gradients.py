"""Gradients per row and per group of rows: the Fisher information's diagonal, the output's sensitivity, one per group.

For a model whose weights all lie in linear layers that rows pass once, all come from one backward pass: a row's
gradient of a weight is the outer product of the output's gradient and the input of the layer, and its square (or
absolute value) is the outer product of their squares. Other modules use `torch.func.vmap`; texts run one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from letheon.core.model.hooks import on_backward
from letheon.core.scoring.likelihood import sample_labels
from letheon.core.training.gradients import Vector
from letheon.retain.classes import ClassLearner
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows

# true: the expectation over the model's own classes; sampled: one class per row, drawn from the model; empirical: the
# row's own class.
Fisher = Literal["true", "sampled", "empirical"]
CHUNK = 256


def diagonal_fisher(learner: Learner, rows: TaskRows, kind: Fisher = "true") -> Vector:
    """Return F, the mean over rows of the squared gradient of log p(y|x), one tensor per weight.

    Args:
        kind: the source of y; texts have `empirical` alone.
    """
    total = [torch.zeros_like(weight) for weight in learner.weights]
    with learner.evaluating():
        if not isinstance(learner, ClassLearner):
            _one_by_one(learner, rows, lambda out, row: learner.losses_of(out, row).sum(), torch.square, total)
        else:
            _add_fisher(learner, rows, kind, total)
    torch._foreach_div_(total, float(len(rows)))
    return total


def _add_fisher(learner: ClassLearner, rows: TaskRows, kind: Fisher, total: Vector) -> None:
    def loss(outputs: Tensor, task: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
        return scale * functional.cross_entropy(learner.masked(outputs, task), labels, reduction="none")

    for start in range(0, len(rows), CHUNK):
        part = rows.part(start, start + CHUNK)
        for labels, share in _labels(learner, part, kind):
            possible = (share > 0).nonzero().flatten()  # impossible classes of a row have no loss
            _add_sizes(learner, part, loss, (part.task, labels, share.sqrt()), torch.square, total, possible)


def output_sensitivity(learner: Learner, rows: TaskRows) -> Vector:
    """Return the mean over rows of |∂ ‖f(x)‖² / ∂ weight|, one tensor per weight; no label enters.

    f(x) are a network's logits, in task-incremental streams those of the row's own task; for texts the logits of the
    vocabulary, and ‖f(x)‖² is their mean over a row's answer tokens.
    """
    total = [torch.zeros_like(weight) for weight in learner.weights]
    with learner.evaluating():
        if not isinstance(learner, ClassLearner):
            _one_by_one(learner, rows, lambda out, _: out.logits.float().square().sum(-1).mean(), torch.abs, total)
        else:
            _add_norms(learner, rows, total)
    torch._foreach_div_(total, float(len(rows)))
    return total


def _add_norms(learner: ClassLearner, rows: TaskRows, total: Vector) -> None:
    def loss(outputs: Tensor, task: Tensor) -> Tensor:
        own = outputs if learner.mask is None else outputs.masked_fill(learner.mask[task] != 0, 0.0)
        return own.square().sum(1)

    for start in range(0, len(rows), CHUNK):
        part = rows.part(start, start + CHUNK)
        _add_sizes(learner, part, loss, (part.task,), torch.abs, total)


def _labels(learner: ClassLearner, rows: TaskRows, kind: Fisher) -> list[tuple[Tensor, Tensor]]:
    """Return labels of the rows and their weights, one pair per backward pass."""
    ones = torch.ones(len(rows), device=rows.inputs.device)
    if kind == "empirical":
        return [(rows.targets, ones)]
    with torch.no_grad():
        logits = learner.masked(learner.outputs(rows), rows.task)
    if kind == "sampled":
        uniform = torch.rand(len(rows), generator=learner.generator).to(logits.device)
        return [(sample_labels(logits, uniform), ones)]
    shares = logits.softmax(1)
    possible = (shares > 0).any(0).nonzero().flatten().tolist()
    return [(torch.full_like(rows.targets, label), shares[:, label]) for label in possible]


def _add_sizes(
    learner: ClassLearner,
    rows: TaskRows,
    loss: Callable[..., Tensor],
    given: Sequence[Tensor],
    size: Callable[[Tensor], Tensor],
    total: Vector,
    at: Tensor | None = None,
) -> None:
    """total += Σ over rows of size(∂ loss / ∂ weight).

    Args:
        loss: a function of outputs [n, classes] and the rows' `given` tensors [n, ...] that returns losses [n].
        size: square or absolute value; of a product it is the product of the sizes.
        at: the places of the rows that count; None takes all.
    """
    at = torch.arange(len(rows), device=rows.inputs.device) if at is None else at
    given = [tensor[at] for tensor in given]
    layers = plain_layers(learner.model, learner.weights)
    if layers is None:
        _add_mapped_sizes(learner, rows.inputs[at], loss, given, size, total)
        return
    place = {id(weight): i for i, weight in enumerate(learner.weights)}

    def see(name: str, entering: Tensor, leaving: Tensor) -> None:
        layer = layers[name]
        if id(layer.weight) in place:
            total[place[id(layer.weight)]].add_(size(leaving).T @ size(entering))
        if layer.bias is not None and id(layer.bias) in place:
            total[place[id(layer.bias)]].add_(size(leaving).sum(0))

    _backward(learner, rows, layers, lambda outputs: loss(outputs[at], *given).sum(), see)


def _backward(
    learner: Learner,
    rows: TaskRows,
    layers: dict[str, nn.Linear],
    loss_of: Callable[[Tensor], Tensor],
    see: Callable[[str, Tensor, Tensor], None],
) -> None:
    """Run one pass and show `see` each layer's input and its output's gradient; the weights' gradients stay."""
    # Frozen weights spare the products that would make their own gradients.
    for weight in learner.weights:
        weight.requires_grad_(False)
    try:
        with on_backward(layers, see), torch.enable_grad():
            loss_of(learner.outputs(rows)).backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    finally:
        for weight in learner.weights:
            weight.requires_grad_(True)


def plain_layers(model: nn.Module, weights: Sequence[nn.Parameter]) -> dict[str, nn.Linear] | None:
    """Return the linear layers by name if they hold all weights and rows pass each once (`Sequential`), else None."""
    if not isinstance(model, nn.Sequential):
        return None
    layers = {name: module for name, module in model.named_children() if type(module) is nn.Linear}
    inside = {id(parameter) for layer in layers.values() for parameter in layer.parameters()}
    return layers if all(id(weight) in inside for weight in weights) else None


def _add_mapped_sizes(
    learner: ClassLearner,
    inputs: Tensor,
    loss: Callable[..., Tensor],
    given: Sequence[Tensor],
    size: Callable[[Tensor], Tensor],
    total: Vector,
) -> None:
    weights = {name: weight.detach() for name, weight in learner.parameters.items()}

    def of_row(weights: dict[str, Tensor], row: Tensor, *given: Tensor) -> Tensor:
        return loss(functional_call(learner.model, weights, (row[None],)), *(one[None] for one in given))[0]

    dims = (None, *[0] * (1 + len(given)))
    found = vmap(grad(of_row), in_dims=dims, randomness="different", chunk_size=32)(weights, inputs, *given)
    for sums, gradient in zip(total, found.values(), strict=True):
        sums.add_(size(gradient).sum(0))


def _one_by_one(
    learner: Learner,
    rows: TaskRows,
    loss: Callable[[Any, TaskRows], Tensor],
    size: Callable[[Tensor], Tensor],
    total: Vector,
) -> None:
    for i in range(len(rows)):
        row = rows.part(i, i + 1)
        with torch.enable_grad():
            gradient = learner.gradient_of(loss(learner.outputs(row), row))
        for sums, one in zip(total, gradient, strict=True):
            sums.add_(size(one))


def group_gradients(learner: Learner, rows: TaskRows, sizes: Sequence[int]) -> Float[Tensor, "groups weights"]:
    """Return the gradient of each group's mean loss, flat, in the order of `learner.weights`.

    Args:
        rows: the rows of all groups, one group after another.
        sizes: rows per group.
    """
    layers = plain_layers(learner.model, learner.weights) if isinstance(learner, ClassLearner) else None
    if layers is not None:
        return _layer_gradients(learner, rows, list(sizes), layers)
    ends = list(accumulate(sizes))
    groups = [rows.part(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    found = [learner.gradient_of(learner.loss(learner.outputs(group), group)) for group in groups]
    return torch.stack([flat(gradient) for gradient in found])


def _layer_gradients(learner: Learner, rows: TaskRows, sizes: list[int], layers: dict[str, nn.Linear]) -> Tensor:
    alike = len(set(sizes)) == 1
    parts: dict[int, Tensor] = {}

    def see(name: str, entering: Tensor, leaving: Tensor) -> None:
        layer = layers[name]
        if alike:
            shape = (len(sizes), sizes[0], -1)
            left, came = leaving.view(shape), entering.view(shape)
            parts[id(layer.weight)] = torch.bmm(left.transpose(1, 2), came).flatten(1)
            if layer.bias is not None:
                parts[id(layer.bias)] = left.sum(1)
            return
        pairs = list(zip(torch.split(leaving, sizes), torch.split(entering, sizes), strict=True))
        parts[id(layer.weight)] = torch.stack([(left.T @ came).flatten() for left, came in pairs])
        if layer.bias is not None:
            parts[id(layer.bias)] = torch.stack([left.sum(0) for left, _ in pairs])

    def loss_of(outputs: Tensor) -> Tensor:
        losses = learner.losses_of(outputs, rows)
        if alike:
            return losses.sum() / sizes[0]
        return torch.stack([part.mean() for part in torch.split(losses, sizes)]).sum()

    _backward(learner, rows, layers, loss_of, see)
    return torch.cat([parts[id(weight)] for weight in learner.weights], 1)


def flat(vector: Sequence[Tensor]) -> Tensor:
    """Join a list of tensors into one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in vector])


def unflat(vector: Tensor, like: Sequence[Any]) -> Vector:
    """Split a vector into tensors of the shapes in `like`; the inverse of `flat`."""
    pieces = torch.split(vector, [tensor.numel() for tensor in like])
    return [piece.view_as(tensor) for piece, tensor in zip(pieces, like, strict=True)]
