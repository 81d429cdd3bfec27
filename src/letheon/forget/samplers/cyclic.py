"""Cyclic: item i is forget row i mod F with retain row i mod R, in file order, never shuffled.

Source:  a baseline of modular sampling (paper `melu`). Where F divides R the same rows meet for ever; that is its
         weakness and is kept.
Differs: none.
"""

from __future__ import annotations

from letheon.core.registry import NoSettings, method
from letheon.forget.parts import PairIndices, Sampler
from letheon.forget.request import Request


@method("sampler", "cyclic", NoSettings, seeded=False)
class Cyclic(Sampler):
    def epoch(self, request: Request) -> int:
        return max(len(request.forget), len(request.retain))

    def plan(self, request: Request, batch_size: int, steps: int, seed: int) -> list[PairIndices]:
        forget, retain = len(request.forget), len(request.retain)
        items = [range(i * batch_size, (i + 1) * batch_size) for i in range(steps)]
        return [([i % forget for i in step], [i % retain for i in step if retain]) for step in items]
