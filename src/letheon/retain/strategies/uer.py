"""UER: new rows are learned from cosines alone, old rows are replayed with full dot products.

Paper:   A Heuristic Bias Addressing Approach for Online Continual Learning, arXiv 2309.04081. The two-predictor rule is
         in the abstract; equal weights of both losses, τ = 0.09 and prediction by dot products are [inferred].
Differs: new and old rows go through the model in one pass. The paper's head has no bias: on the command line
         take `mlp/no-bias`. Where a head has one, it enters the dot products and not the cosines; `BiasWatch` refuses
         it, as such logits are no products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.registry import Checked, method
from letheon.retain.classes import ClassLearner
from letheon.retain.learner import Learner
from letheon.retain.memory import Policy
from letheon.retain.rows import TaskRows, joined
from letheon.retain.strategies.replay import Replaying
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task

EPSILON = 1e-6  # added to the product of norms; the authors' sibling code
Form = Literal["cosine", "dot"]


@dataclass(frozen=True)
class Settings(Checked, positive=("capacity", "tau", "batch")):
    capacity: int = 200  # split CIFAR-10 in the sibling's example
    tau: float = 0.09  # the authors' cosine heads [inferred]
    batch: int = 10  # old rows per step; the sibling's eps_mem_batch
    current: Form = "cosine"  # logits of the new rows; dot with replay=dot is plain replay
    replay: Form = "dot"  # logits of the old rows
    policy: Policy = "reservoir"

    @property
    def fill(self) -> str:
        """The memory is filled after each step, as the method is online."""
        return "step"


class Logits(NamedTuple):
    """Logits and their factors: dot = ‖w_c‖ ‖h‖ cosine, up to `EPSILON`."""

    dot: Float[Tensor, "n classes"]
    cosine: Float[Tensor, "n classes"]
    weight_norm: Float[Tensor, " classes"]  # jaxtyping's name of a dimension
    feature_norm: Float[Tensor, " n"]


def decompose_logits(features: Float[Tensor, "n width"], weight: Float[Tensor, "classes width"]) -> Logits:
    """Split <w_c, h> into norms and a cosine; gradients flow through the norms, and a zero feature has cosine 0."""
    dot = features @ weight.T
    weight_norm, feature_norm = (torch.linalg.vector_norm(one, dim=1) for one in (weight, features))
    return Logits(dot, dot / (feature_norm[:, None] * weight_norm + EPSILON), weight_norm, feature_norm)


@method("strategy", "uer", Settings, paper="2309.04081")
class UER(Replaying):
    wants: ClassVar[frozenset[str]] = frozenset({"outputs", "features"})
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})

    def loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        return learner.loss(self._logits(learner, rows, outputs, self.settings.current), rows)

    def replay(self, learner: Learner, rows: TaskRows) -> TaskRows | None:
        return self.draw(rows)

    def replay_loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        return learner.loss(self._logits(learner, rows, outputs, self.settings.replay), rows)

    def _logits(self, learner: Learner, rows: TaskRows, outputs: Tensor, form: Form) -> Tensor:
        if form == "dot":
            return outputs
        assert isinstance(learner, ClassLearner)
        assert rows.features is not None
        return decompose_logits(rows.features, learner.head.weight).cosine / self.settings.tau


# The bias that the paper measures


class Factor(NamedTuple):
    """A mean over rows, for old and for the newest classes."""

    old: float
    newest: float

    @property
    def gap(self) -> float:
        """Newest minus old: the bias towards the last task."""
        return self.newest - self.old


class BiasReport(NamedTuple):
    """The bias of the logits by factor, and its effect on predictions.

    Attributes:
        dot, cosine, weight_norm: the logit and its factors.
        accuracy: accuracy on old and on newest rows, by dot products.
        cosine_accuracy: the same accuracies, by cosines.
    """

    dot: Factor
    cosine: Factor
    weight_norm: Factor
    accuracy: Factor
    cosine_accuracy: Factor


@torch.no_grad()
def bias_report(
    features: Float[Tensor, "n width"],
    weight: Float[Tensor, "classes width"],
    labels: Int[Tensor, " n"],
    old: Sequence[int],
    newest: Sequence[int],
) -> BiasReport:
    """Return means over balanced test rows, for old and newest classes; predictions choose among both together."""
    groups = [list(old), list(newest)]
    seen = torch.tensor(groups[0] + groups[1], device=labels.device)
    of_group = [torch.isin(labels, torch.tensor(group, device=labels.device)) for group in groups]
    found = decompose_logits(features, weight)

    def right(logits: Tensor) -> Factor:
        hits = (seen[logits[:, seen].argmax(1)] == labels).double()
        return Factor(*(float(hits[rows].mean()) for rows in of_group))

    def over(values: Tensor) -> Factor:
        return Factor(*(float(values[..., group].mean()) for group in groups))

    return BiasReport(
        over(found.dot), over(found.cosine), over(found.weight_norm), right(found.dot), right(found.cosine)
    )


class BiasWatch(Strategy):
    """A strategy that reports the logits' bias from the second task on: `Composition([UER(), BiasWatch()], "uer")`.

    Attributes:
        reports: one report per task, from the second on.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[BiasReport] = []

    def prepare(self, learner: Learner) -> None:
        """Refuse a head with a bias, whose logits are no product of norms and a cosine."""
        assert isinstance(learner, ClassLearner)
        if learner.head.bias is not None:
            raise InputError(
                "the model's head has a bias, so its logits are no product of norms and an angle",
                "make the head with nn.Linear(..., bias=False), or take mlp/no-bias",
            )

    def after_task(self, learner: Learner, task: Task) -> None:
        if learner.task == 0:
            return
        assert isinstance(learner, ClassLearner)
        seen = learner.stream.tasks[: learner.task + 1]
        rows = joined([one.test.to(learner.device) for one in seen if isinstance(one.test, TaskRows)])
        features = learner.map_rows(rows, lambda part: learner.features(part.inputs))
        old = sorted({one for before in seen[:-1] for one in before.classes})
        self.reports.append(bias_report(features, learner.head.weight, rows.targets, old, task.classes))
