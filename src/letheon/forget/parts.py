"""The base classes of a recipe's four parts, and the data that they exchange.

An objective defines the losses, an update turns the forget and retain gradients into one step, a scope selects the
weights that may move, and a sampler plans the rows of each step. Every part composes with every other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from letheon.core.registry import Configured
from letheon.core.rows.encoding import Batch, Encoded, to_device
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import Positions, Scores, score

if TYPE_CHECKING:
    from letheon.core.model.models import LanguageModel
    from letheon.core.training.loop import Loop
    from letheon.forget.request import Request

# One effective batch: indices of its forget rows and of its retain rows.
PairIndices = tuple[list[int], list[int]]
# A scope's penalty on the weights as they are.
Penalty = Callable[[], Tensor | None]


WATCHED = 32  # retain rows that a closed loop looks at


@dataclass
class Pair:
    """The rows of one micro-batch; either half may be missing, for updates that need separate gradients.

    Attributes:
        step: the step of the plan to which it belongs.
        penalty: the scope's penalty on the weights, a term of the step as a whole.
        share: this micro-batch's share of the penalty; the shares of a step's retain halves add up to 1 (of its
            forget halves if it has no retain rows).
        forgotten: the forget rows of the whole step, of which this micro-batch has some; None for all planned ones.
    """

    forget: Batch | None
    retain: Batch | None
    step: int = 0
    share: float = 0.0
    penalty: Penalty | None = None
    forgotten: tuple[int, ...] | None = None

    def only_forget(self) -> Pair:
        """The forget half, without the penalty."""
        return replace(self, retain=None, share=0.0, penalty=None)

    def only_retain(self) -> Pair:
        """The retain half, with its share of the penalty."""
        return replace(self, forget=None)


@dataclass
class Terms:
    """The losses of a pair.

    Attributes:
        forget: the forget loss, already weighted (γ·L_f); None without forget rows.
        retain: the retain loss, already weighted (α·L_r); None without retain rows or with α = 0.
        keep: negative log-likelihood of the forget answers' tokens that carry no fact, with `tokens="value"`.
        metrics: numbers for the log: mean losses in nats per token, most of them negative log-likelihoods.
    """

    forget: Tensor | None = None
    retain: Tensor | None = None
    keep: Tensor | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def total(self) -> Tensor | None:
        """The sum of the terms; None if there is no term."""
        terms = [term for term in (self.forget, self.retain, self.keep) if term is not None]
        return torch.stack(terms).sum() if terms else None

    def without(self, forget: bool, retain: bool) -> Terms:
        """The same terms with those of one half or both as zeros, whose gradients are zero."""

        def left(term: Tensor | None, gone: bool) -> Tensor | None:
            return 0.0 * term if term is not None and gone else term

        gone = {name: retain if name.startswith("retain") else forget for name in self.metrics}
        metrics = {name: 0.0 if gone[name] else value for name, value in self.metrics.items()}
        return Terms(left(self.forget, forget), left(self.retain, retain), left(self.keep, forget), metrics)


@dataclass
class Rows:
    """The request's rows as tokens; one numbering counts the forget rows first, then the retain rows.

    Attributes:
        examples: the forget rows as texts.
        request: the request that the rows come from, if there is one.
    """

    model: LanguageModel
    examples: Sequence[Example]
    forget: list[Encoded]
    retain: list[Encoded]
    seed: int = 0
    request: Request | None = None

    def row(self, number: int) -> Encoded:
        """The row with a number (`Batch.index`)."""
        return self.forget[number] if number < len(self.forget) else self.retain[number - len(self.forget)]

    def visited(self, plan: Sequence[PairIndices]) -> tuple[list[Batch], list[Batch]]:
        """The forget and the retain rows that a plan visits, each row once, as a batch of its own."""
        forget, retain = (sorted({i for halves in plan for i in halves[half]}) for half in (0, 1))
        return [self.forget_batch([i]) for i in forget], [self.retain_batch([i]) for i in retain]

    def watched(self) -> list[int]:
        """The numbers of at most `WATCHED` retain rows that a closed loop looks at."""
        order = np.random.default_rng(stream_seed(self.seed, "closed loop")).permutation(len(self.retain))
        return [int(i) for i in order[:WATCHED]]

    def kept_texts(self) -> list[str]:
        """The request's running texts that are kept."""
        return [row.answer for row in (self.request.retain if self.request is not None else ()) if not row.prompt]

    def forget_batch(self, numbers: Sequence[int]) -> Batch:
        """Forget rows as a batch; `index` is the row's number."""
        return self.batch([self.forget[i] for i in numbers], numbers)

    def retain_batch(self, numbers: Sequence[int]) -> Batch:
        """Retain rows as a batch; `index` counts on after the forget rows."""
        return self.batch([self.retain[i] for i in numbers], [len(self.forget) + i for i in numbers])

    def batch(self, rows: Sequence[Encoded], index: Sequence[int]) -> Batch:
        """Rows with the given numbers as a batch on the model's device."""
        return to_device(self.model.encoder().collate(rows, index), self.model.device)


@dataclass
class Replacement:
    """The rows that an objective has written in the place of one forget row, to be learned instead of it.

    Attributes:
        plain: the question as it stands, with each alternate answer.
        others: other forms of the question, with an alternate answer each.
        fluency: mean log-probability per token (nats) of the best alternate to the question as it stands, under the
            model that wrote it, of running text in the mean over the places from which it is continued; None where
            every such alternate was rejected.
    """

    plain: list[Example] = field(default_factory=list)
    others: list[Example] = field(default_factory=list)
    fluency: float | None = None


class Objective(Configured):
    """Base of objectives: an objective defines the losses to descend.

    A class may have the hook `check_recipe(recipe, request)`, a static method that raises `InputError` for a
    combination of parts or a request that cannot work. It is called when the recipe is read (the request is None) and
    again before a model is loaded. The classes of all kinds of parts may have it, and beside it the static methods
    `check_model(recipe, model)`, which refuses an architecture by its modules (before loading, they have no weights),
    and `check_shards(recipe, model)`, which refuses weights in shards over several processes.

    Attributes:
        written: one entry per forget row if `prepare` writes rows in their place, else empty.
        recomputes: whether blocks may be run again in the backward pass (`gradient_checkpointing`).
        keeps_blocks: whether losses read more of a block than its output; weights in shards then stay whole until the
            end of a step.
        beyond: numbers of retain rows that it could learn though the plan has them in no step.
        bare: whether questions stand in plain text too, without the chat template, so that looks ask for facts there.
        turns: visits of a forget row until it stands in the same form again; only then may its losses be compared.
    """

    recomputes: ClassVar[bool] = True
    keeps_blocks: ClassVar[bool] = False

    written: Sequence[Replacement] = ()
    beyond: Set[int] = frozenset()
    bare: bool = False
    turns: int = 1

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        """Compute reference values once, before the first step; `terms` looks them up by `index`."""

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        """The losses of a pair, each this pair's share of the effective batch's loss."""
        raise TypeError(f"{type(self).__name__} defines no loss: write terms()")


class Update(Configured):
    """Base of updates: an update turns gradients into one step.

    Attributes:
        bytes_per_weight: bytes that a run in float32 with AdamW holds per weight where all weights move, activations
            aside. An update that holds further vectors in its step adds 4 for each.
    """

    # float32 vectors of the length of the weights: the weights, a gradient, two moments, a copy from before the run
    bytes_per_weight: ClassVar[float] = 4.0 * (1 + 1 + 2 + 1)

    def prepare(self, loop: Loop, objective: Objective, rows: Rows, scope: Scope) -> None:
        """Compute curvature, projectors or groups once, after the objective has prepared itself."""

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        """Backpropagate this process's micro-batches (`terms_of`) and take one optimizer step; returns metrics."""
        raise TypeError(f"{type(self).__name__} takes no step: write step()")

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that must survive a restart, each of a parameter's shape, by keys that end in the parameter's number
        (`history/3`)."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the tensors of `state_dict`."""


class Scope(Configured):
    """Base of scopes: a scope selects the weights that may move.

    Attributes:
        table: how the weights were selected, one row per layer or module; saved with the run unless it is empty.
        reads_weights: whether `select` reads weights, and not only their names and shapes.
    """

    reads_weights: ClassVar[bool] = True
    table: Sequence[Mapping[str, Any]] = ()

    def may_move(self, name: str) -> bool:
        """Whether a mixture's fused experts of this name may move; asked before a model is loaded."""
        return True

    def select(self, model: LanguageModel, request: Request) -> dict[str, nn.Parameter]:
        """Select parameters by name, perhaps of adapters that it attaches; a resumed run must select the same."""
        raise TypeError(f"{type(self).__name__} selects no weights: write select()")

    def penalty(self) -> Tensor | None:
        """A term that is added to the loss of every step; None if the scope has none."""
        return None

    def finish(self, model: LanguageModel) -> None:
        """Leave the model, after the last step, in a form that plain transformers or PEFT can save and read."""


class Sampler(Configured):
    """Base of samplers: a sampler plans the forget and retain rows of every step."""

    def epoch(self, request: Request) -> int:
        """Number of pairs of a forget and a retain row in one epoch."""
        return len(request.forget)

    def report(self, request: Request, plan: Sequence[PairIndices]) -> dict[str, Any]:
        """What a plan lets the model see, saved with the run as `exposure.json`; empty if there is nothing to say."""
        return {}

    def plan(self, request: Request, batch_size: int, steps: int, seed: int) -> list[PairIndices]:
        """Plan `steps` effective batches; the numbers index `request.forget` and `request.retain`."""
        raise TypeError(f"{type(self).__name__} plans no rows: write plan()")


def terms_of(model: LanguageModel, objective: Objective, pair: Pair, retain_weight: float = 1.0) -> Terms:
    """The objective's terms of a pair, the retain term times a weight, plus the pair's share of the scope's penalty."""
    terms = objective.terms(model, pair)
    if terms.retain is not None and retain_weight != 1:
        terms.retain = retain_weight * terms.retain
    forget, retain = (half is not None and half.is_ghost for half in (pair.forget, pair.retain))
    if forget or retain:
        terms = terms.without(forget, retain)
    penalty = pair.penalty() if pair.penalty is not None and pair.share else None
    if penalty is not None:
        share = pair.share * penalty
        terms.metrics["penalty"] = pair.share * float(penalty.detach())
        terms.retain = share if terms.retain is None else terms.retain + share
    return terms


def score_pair(
    model: LanguageModel, pair: Pair, positions: Positions = "labels"
) -> tuple[Scores | None, Scores | None]:
    """Scores of both halves; a pair with both halves takes one forward pass."""
    if pair.forget is None or pair.retain is None:
        return (
            score(model, pair.forget, positions) if pair.forget is not None else None,
            score(model, pair.retain, positions) if pair.retain is not None else None,
        )
    both = score(model, joined(pair.forget, pair.retain), positions)
    size = len(pair.forget)
    return both.part(0, size), both.part(size, size + len(pair.retain))


def joined(first: Batch, second: Batch) -> Batch:
    """Concatenate two batches, padding the shorter one."""
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
    """Sum metrics over micro-batches; each is a share of the effective batch's mean."""
    names = {name for part in parts for name in part}
    return {name: sum(part.get(name, 0.0) for part in parts) for name in sorted(names)}
