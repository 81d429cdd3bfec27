"""Paired: each forget row meets one retain row, drawn uniformly with replacement (the field's "1:1 random").

Source:  open-unlearning (arXiv 2506.12618): an epoch is as long as the forget set.
Differs: none.
"""

from __future__ import annotations

import torch

from letheon.core.registry import NoSettings, method
from letheon.core.rows.sampling import epochs_of, stream_seed
from letheon.forget.parts import PairIndices, Sampler
from letheon.forget.request import Request


@method("sampler", "paired", NoSettings)
class Paired(Sampler):
    def plan(self, request: Request, batch_size: int, steps: int, seed: int) -> list[PairIndices]:
        forget, retain = len(request.forget), len(request.retain)
        generator = torch.Generator().manual_seed(stream_seed(seed, "retain rows"))
        plan = []
        for rows in epochs_of(forget, batch_size, steps, stream_seed(seed, "forget rows")):
            size = (len(rows),) if retain else (0,)
            plan.append((rows, torch.randint(max(retain, 1), size, generator=generator).tolist()))
        return plan
