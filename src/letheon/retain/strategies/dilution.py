"""Dilution (ignore-top-k): after a task the weights that moved most are reset, so that new facts leak less elsewhere.

Paper:   Sun et al., How new data permeates LLM knowledge and how to dilute it, arXiv 2504.09522, App. A.6, Eq. 3:
         w = w_0 + (w_1 - w_0) ⊙ M, with M = 0 at the share k of a tensor's entries that moved most; no rescaling.
Differs: "largest" is read as largest in size. A count is rounded to whole entries. Ignored entries take the old weight
         itself and the others the new weight, so that no weight is rounded. Parts other than the top are the paper's
         controls. In a composition it belongs first (`dilution+ewc`): hooks after a task run from left to right, and
         another strategy should anchor the final weights.
Note:    AdamW, the default for language models, makes all entries of a change about equally large, so that the largest
         differ little from others. The reproduction (`outlandish`) learns by plain descent (`--optimizer sgd`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.retain.learner import Learner
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task

Ignored = Literal["top", "bottom", "random"]
Scope = Literal["tensor", "global"]


@dataclass(frozen=True)
class Settings(Checked, shares=("share",)):
    share: float = 0.08  # k, the paper's headline; 0.04 is its other
    ignore: Ignored = "top"  # bottom and random are controls
    scope: Scope = "tensor"  # each parameter group by itself; global ranks all entries together [our extension]


def ignored_entries(
    size: Float[Tensor, " n"], share: float, ignore: Ignored = "top", generator: torch.Generator | None = None
) -> Bool[Tensor, " n"]:
    """Return which entries are ignored, exactly round(share · n).

    Args:
        size: |change| per entry.
        generator: source of the random control's draws.
    """
    count = round(share * len(size))
    if ignore == "random":
        places = torch.randperm(len(size), generator=generator)[:count].to(size.device)
    else:
        places = size.topk(count, largest=ignore == "top", sorted=False).indices
    return torch.zeros(len(size), dtype=torch.bool, device=size.device).index_fill_(0, places, True)


def diluted(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    share: float = 0.08,
    ignore: Ignored = "top",
    scope: Scope = "tensor",
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Return w_0 + (w_1 - w_0) ⊙ M for weights by name: `before` where an entry is ignored, `after` elsewhere.

    A share of 0 gives `after` and a share of 1 gives `before`, bit for bit. A tensor shared by two layers has one name
    and is handled once.
    """
    moved = {name: (after[name] - before[name]).abs().flatten() for name in after}
    if scope == "global":
        sizes = [len(size) for size in moved.values()]
        every = ignored_entries(torch.cat(list(moved.values())), share, ignore, generator)
        masks = dict(zip(moved, torch.split(every, sizes), strict=True))
    else:
        masks = {name: ignored_entries(size, share, ignore, generator) for name, size in moved.items()}
    return {name: torch.where(masks[name].view_as(after[name]), before[name], after[name]) for name in after}


@method("strategy", "dilution", Settings, paper="2504.09522", tiny=({}, {"ignore": "random", "scope": "global"}))
class Dilution(Strategy):
    divisible: ClassVar[bool] = True
    keeps: ClassVar[tuple[str, ...]] = ("before",)
    before: dict[str, Tensor]

    def prepare(self, learner: Learner) -> None:
        self.before = {}

    def before_task(self, learner: Learner, task: Task) -> None:
        self.before = learner.snapshot()

    @torch.no_grad()
    def after_task(self, learner: Learner, task: Task) -> None:
        settings = self.settings
        after = {name: weight for name, weight in learner.parameters.items() if name in self.before}
        kept = diluted(self.before, after, settings.share, settings.ignore, settings.scope, learner.generator)
        for name, weight in after.items():
            weight.copy_(kept[name])
        self.before = {}
