"""A random text, and what a model makes of it in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from letheon.core.model.models import LanguageModel


def text(n: int, rows: int = 1) -> Tensor:
    return torch.randint(3, 250, (rows, n), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def logits(model: LanguageModel, ids: Tensor, **options: object) -> Tensor:
    return model.model(ids, use_cache=False, **options).logits
