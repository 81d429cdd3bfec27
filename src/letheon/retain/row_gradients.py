"""Gradients per row and per group of rows: the diagonal of the Fisher information, and one gradient per group.

For a model whose weights all lie in linear layers that rows pass once, both come from one backward pass: a row's
gradient of a weight is the outer product of the output's gradient and the input of the layer, and its square is the
outer product of their squares. Other modules use `torch.func.vmap`; texts run one by one.
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
            return _one_by_one(learner, rows, total)
        for start in range(0, len(rows), CHUNK):
            part = rows.part(start, start + CHUNK)
            for labels, share in _labels(learner, part, kind):
                _add_squares(learner, part, labels, share.sqrt(), total)
    torch._foreach_div_(total, float(len(rows)))
    return total


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


def _add_squares(learner: ClassLearner, rows: TaskRows, labels: Tensor, scale: Tensor, total: Vector) -> None:
    """total += Σ over rows of (scale · ∂ -log p(label))² for each weight."""
    layers = plain_layers(learner.model, learner.weights)
    known = scale > 0  # impossible classes of a row have no loss

    def loss_of(outputs: Tensor) -> Tensor:
        logits = learner.masked(outputs, rows.task)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return (scale * losses)[known].sum()

    if layers is None:
        _add_mapped_squares(learner, rows, labels, scale, total)
        return
    place = {id(weight): i for i, weight in enumerate(learner.weights)}

    def see(name: str, entering: Tensor, leaving: Tensor) -> None:
        layer = layers[name]
        if id(layer.weight) in place:
            total[place[id(layer.weight)]].add_(leaving.square().T @ entering.square())
        if layer.bias is not None and id(layer.bias) in place:
            total[place[id(layer.bias)]].add_(leaving.square().sum(0))

    _backward(learner, rows, layers, loss_of, see)


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


def _add_mapped_squares(learner: ClassLearner, rows: TaskRows, labels: Tensor, scale: Tensor, total: Vector) -> None:
    weights = {name: weight.detach() for name, weight in learner.parameters.items()}

    def loss(weights: dict[str, Tensor], inputs: Tensor, label: Tensor, task: Tensor, scale: Tensor) -> Tensor:
        logits = learner.masked(functional_call(learner.model, weights, (inputs[None],)), task[None])
        return scale * functional.cross_entropy(logits, label[None])

    at = (scale > 0).nonzero().flatten()
    each = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0), randomness="different", chunk_size=32)
    found = each(weights, rows.inputs[at], labels[at], rows.task[at], scale[at])
    for sums, gradient in zip(total, found.values(), strict=True):
        sums.add_(gradient.square().sum(0))


def _one_by_one(learner: Learner, rows: TaskRows, total: Vector) -> Vector:
    for i in range(len(rows)):
        row = rows.part(i, i + 1)
        with torch.enable_grad():
            gradient = learner.gradient_of(learner.losses_of(learner.outputs(row), row).sum())
        torch._foreach_addcmul_(total, gradient, gradient)
    torch._foreach_div_(total, float(len(rows)))
    return total


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
