"""Entropy neurons: neurons of the last MLP that change the logits' scale and hardly their order.

Paper:   How Post-Training Reshapes LLMs, arXiv 2504.02904, its last part: among the quarter of neurons with the largest
         output weights, the ten whose cosines with the output embeddings vary least.
Differs: the overlap of two models' sets is compared with that of random neurons from the same quarter.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.model.sites import blocks, down_projection, is_transposed


def logit_variance(
    out: Float[Tensor, "neurons width"], unembedding: Float[Tensor, "vocabulary width"]
) -> Float[Tensor, " neurons"]:
    """Compute the variance over the vocabulary of the cosine of a neuron's output weight with each embedding."""
    normal = torch.nn.functional.normalize
    return (normal(out, dim=1) @ normal(unembedding, dim=1).T).var(1)


def entropy_neurons(
    out: Float[Tensor, "neurons width"], unembedding: Float[Tensor, "vocabulary width"], count: int = 10
) -> set[int]:
    """Choose the `count` neurons of least variance among the quarter with the largest norm."""
    large = large_neurons(out)
    variance = logit_variance(out[large], unembedding)
    return {int(large[i]) for i in variance.argsort()[:count]}


def large_neurons(out: Float[Tensor, "neurons width"]) -> Tensor:
    """Return the quarter of the neurons whose output weight has the largest norm."""
    return out.norm(dim=1).argsort(descending=True)[: max(1, len(out) // 4)]


def last_mlp(model: LanguageModel) -> tuple[Float[Tensor, "neurons width"], Float[Tensor, "vocabulary width"]]:
    """Return the last MLP's output weights per neuron, and the output embeddings."""
    matrix = down_projection(blocks(model.base())[-1])
    weight = matrix.get_parameter("weight").detach().float().cpu()
    head = model.base().get_output_embeddings().weight.detach().float().cpu()
    return (weight if is_transposed(matrix) else weight.T), head


def overlap(first: set[int], second: set[int]) -> float:
    """Compute the intersection over the union of two sets."""
    return len(first & second) / max(1, len(first | second))
