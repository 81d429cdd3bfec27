"""The four kinds of parts of a recipe, and what they hand to each other.

An objective says what is descended, an update how the forget and retain gradients become one step, a scope what may
move, a sampler which rows meet. Each is written once and composes with the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from letheon.core.rows.encoding import Batch, Encoded, to_device
from letheon.core.rows.examples import Example
from letheon.core.scoring.likelihood import Positions, Scores, score

if TYPE_CHECKING:
    from letheon.core.model.models import LanguageModel
    from letheon.core.training.loop import Loop
    from letheon.forget.request import Request

# One effective batch: numbers of forget rows and of the retain rows that they meet.
PairIndices = tuple[list[int], list[int]]


@dataclass
class Pair:
    """The rows of one (micro-)batch: either half may be missing, for updates that need the gradients apart.

    Attributes:
        step: which step of the plan it belongs to.
        share: this micro-batch's share of a term that belongs to the step as a whole (a penalty on weights); the
            shares of a step's retain halves add up to 1 (of its forget halves, where nothing is retained).
    """

    forget: Batch | None
    retain: Batch | None
    step: int = 0
    share: float = 0.0

    def only_forget(self) -> Pair:
        """The forget half."""
        return Pair(self.forget, None, self.step)

    def only_retain(self) -> Pair:
        """The retain half, with the share."""
        return Pair(None, self.retain, self.step, self.share)


@dataclass
class Terms:
    """What an objective says of a pair.

    Attributes:
        forget: the forget loss, already weighted (γ·L_f); None without forget rows.
        retain: the retain loss, already weighted (α·L_r); None without retain rows or with α = 0.
        keep: negative log-likelihood of the forget answers' tokens that carry no fact (`tokens="value"`).
        metrics: numbers for the log: mean negative log-likelihoods in nats per token.
    """

    forget: Tensor | None = None
    retain: Tensor | None = None
    keep: Tensor | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def total(self) -> Tensor | None:
        """The sum of what is there."""
        there = [term for term in (self.forget, self.retain, self.keep) if term is not None]
        return torch.stack(there).sum() if there else None


@dataclass
class Rows:
    """The request's rows as tokens, numbered through: forget rows first, then retain rows."""

    model: LanguageModel
    examples: Sequence[Example]  # the forget rows as they were read
    forget: list[Encoded]
    retain: list[Encoded]
    seed: int = 0
    request: Request | None = None  # where the rows come from a request

    def forget_batch(self, numbers: Sequence[int]) -> Batch:
        """Forget rows as a batch; `index` is the row's number."""
        return self.batch([self.forget[i] for i in numbers], numbers)

    def retain_batch(self, numbers: Sequence[int]) -> Batch:
        """Retain rows as a batch; `index` counts on after the forget rows."""
        return self.batch([self.retain[i] for i in numbers], [len(self.forget) + i for i in numbers])

    def batch(self, rows: Sequence[Encoded], index: Sequence[int]) -> Batch:
        """Any rows as a batch on the model's device."""
        return to_device(self.model.encoder().collate(rows, index), self.model.device)


class Objective(Protocol):
    """What is descended."""

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        """Once, before the first step: reference values are computed here and looked up by `index` later."""

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        """The losses of a pair, as shares of the effective batch's."""


class Update:
    """How gradients become a step: the base of all updates."""

    def prepare(self, loop: Loop, objective: Objective, rows: Rows, scope: Scope) -> None:
        """Once, after the objective's: what is computed before the first step (curvature, projectors, groups)."""

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        """Backward over this process's micro-batches, then one optimizer step; returns metrics."""
        raise TypeError(f"{type(self).__name__} does not say how it steps")

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that must survive a restart."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take them back."""


class Scope:
    """Which weights may move: the base of all scopes.

    Attributes:
        table: how the weights were chosen, a row a layer or module, where there is something to say; kept in the run.
    """

    table: Sequence[Mapping[str, Any]] = ()

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        """The parameters by name; may attach adapters to the model. The same in a resumed run."""
        raise TypeError(f"{type(self).__name__} does not say what it selects")

    def penalty(self) -> Tensor | None:
        """A term that is added to the loss of every step, where the method has one."""
        return None

    def finish(self, model: LanguageModel) -> None:
        """After the last step: leave the model in a form that plain transformers or PEFT can save and read."""


class Sampler:
    """Which rows meet which: the base of all samplers."""

    def epoch(self, request: Request) -> int:
        """How many pairs of a forget and a retain row are one epoch."""
        return len(request.forget)

    def plan(self, request: Request, batch_size: int, steps: int, seed: int) -> list[PairIndices]:
        """`steps` effective batches; numbers are places in `request.forget` and `request.retain`."""
        raise TypeError(f"{type(self).__name__} does not say which rows meet")


def score_pair(
    model: LanguageModel, pair: Pair, positions: Positions = "labels"
) -> tuple[Scores | None, Scores | None]:
    """Scores of both halves, in one forward pass where both are there."""
    if pair.forget is None or pair.retain is None:
        return (
            score(model, pair.forget, positions) if pair.forget is not None else None,
            score(model, pair.retain, positions) if pair.retain is not None else None,
        )
    both = score(model, joined(pair.forget, pair.retain), positions)
    size = len(pair.forget)
    return both.part(0, size), both.part(size, size + len(pair.retain))


def joined(first: Batch, second: Batch) -> Batch:
    """Two batches as one, the rows of the first before those of the second."""
    length = max(first.input_ids.shape[1], second.input_ids.shape[1])

    def stack(name: str, fill: int) -> Tensor:
        parts = [getattr(first, name), getattr(second, name)]
        return torch.cat([nn.functional.pad(part, (0, length - part.shape[1]), value=fill) for part in parts])

    return Batch(
        stack("input_ids", 0),
        stack("labels", -100),
        stack("attention_mask", 0),
        torch.cat([first.index, second.index]),
        stack("value_mask", 0),
    )


def mean_metrics(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Sums over micro-batches of shares of the effective batch."""
    names = {name for part in parts for name in part}
    return {name: sum(part.get(name, 0.0) for part in parts) for name in sorted(names)}
