"""Second formulations that tests compare with: one row a forward pass, full logits, no cache, a copied reference."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.forget.parts import Pair, Rows
from letheon.forget.recipe_job import make_pairs
from letheon.forget.request import Request


def row_logits(model: LanguageModel, row: Encoded) -> tuple[Tensor, Tensor]:
    """[n, vocabulary] logits that predict the answer's n tokens, and those tokens: a full pass over one row."""
    logits = model.base()(torch.tensor([row.ids]), use_cache=False).logits[0]
    start = max(row.start, 1)
    return logits[start - 1 : -1], torch.tensor(row.ids[start:])


def row_logp(model: LanguageModel, row: Encoded) -> Tensor:
    """[n] log-probability of each of the answer's tokens."""
    logits, labels = row_logits(model, row)
    return torch.log_softmax(logits, -1).gather(-1, labels[:, None])[:, 0]


def all_logits(model: LanguageModel, row: Encoded) -> Tensor:
    """[length - 1, vocabulary] logits at every position that predicts a token of the row."""
    return model.base()(torch.tensor([row.ids]), use_cache=False).logits[0, :-1]


def nll_of_tokens(model: LanguageModel, rows: Sequence[Encoded]) -> Tensor:
    """Mean negative log-likelihood over all answer tokens of the rows."""
    return -torch.cat([row_logp(model, row) for row in rows]).mean()


def frozen_copy(model: LanguageModel) -> LanguageModel:
    """A second model in memory."""
    return LanguageModel(copy.deepcopy(model.model), model.tokenizer, model.name)


def disturb(model: LanguageModel, size: float = 0.02) -> None:
    """Move every weight a little, so that the model differs from its reference."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def rows_of(model: LanguageModel, request: Request, values: bool = False) -> Rows:
    """The request's rows as tokens, with the value's tokens marked if asked for."""
    encoder = model.encoder()
    forget = encoder.encode_all(request.forget)
    if not values:
        forget = [Encoded(row.ids, row.start) for row in forget]
    return Rows(model, request.forget, forget, encoder.encode_all(request.retain))


def pair_of(rows: Rows, forget: list[int], retain: list[int]) -> Pair:
    """One undivided pair."""
    return make_pairs(rows, (forget, retain), 0, 1, 0)[0]


def gradients(loss: Tensor, model: LanguageModel) -> list[Tensor]:
    """Of all weights, zero where the loss does not depend on one."""
    parameters = list(model.model.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def largest_difference(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Largest difference of an entry, relative to the largest entry of `second`."""
    scale = max(float(tensor.abs().max()) for tensor in second)
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True)) / max(scale, 1e-30)
