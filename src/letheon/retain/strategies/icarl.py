"""iCaRL: exemplars nearest to their class mean are learned with each task, and classes are told by the nearest mean.

Paper:   Rebuffi et al., iCaRL, arXiv 1611.07725, Algorithms 1-5. Listed in the review of Parisi et al.,
         arXiv 1802.07569; the host of arXiv 2503.18371.
Differs: exemplars of a class are chosen after its task and later only cut, as in the paper; means are of the exemplars'
         features as the model now is, without flipped images. The loss is a mean over rows and seen classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from letheon.core.registry import Checked, method
from letheon.retain.classes import ClassLearner
from letheon.retain.learner import Learner
from letheon.retain.prototypes import means_of, nearest_mean
from letheon.retain.rows import TaskRows, joined
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task


@dataclass(frozen=True)
class Settings(Checked, positive=("capacity",)):
    capacity: int = 200  # exemplars of all classes together: capacity / classes each


def herded(features: Float[Tensor, "n width"], count: int) -> Int[Tensor, " m"]:
    """Return the places of `count` exemplars: each brings the mean of those so far nearest to the mean of all."""
    mean, total = features.mean(0), torch.zeros_like(features[0])
    chosen: list[int] = []
    for k in range(1, min(count, len(features)) + 1):
        distance = (mean - (total + features) / k).square().sum(1)
        distance[chosen] = torch.inf
        chosen.append(int(distance.argmin()))
        total = total + features[chosen[-1]]
    return torch.tensor(chosen, device=features.device)


def icarl_loss(
    logits: Float[Tensor, "n seen"], old: Float[Tensor, "n past"] | None, labels: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Return the binary cross-entropy (nats): past classes imitate the old sigmoids, new ones have one-hot targets.

    Args:
        old: logits of the model before the task for the past classes, which come first; None in the first task.
        labels: columns of the rows' classes.
    """
    targets = functional.one_hot(labels, logits.shape[1]).to(logits)
    if old is not None:
        targets[:, : old.shape[1]] = old.sigmoid()
    return functional.binary_cross_entropy_with_logits(logits, targets)


@method("strategy", "icarl", Settings, paper="1802.07569")
class ICaRL(Strategy):
    keeps: ClassVar[tuple[str, ...]] = ("exemplars", "old")
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})
    exemplars: dict[str, dict[str, Tensor]]  # class -> tensors of its rows, best first
    old: dict[str, Tensor]  # parameters and buffers before the task

    def prepare(self, learner: Learner) -> None:
        self.exemplars, self.old = {}, {}
        self._means: tuple[int, Tensor, Tensor] | None = None

    def rows(self, learner: Learner, task: Task) -> TaskRows:
        """Return the task's rows and all exemplars, which one sampler then orders."""
        return joined([learner.train_rows(task), *self._stored()])

    def before_task(self, learner: Learner, task: Task) -> None:
        if learner.task:
            self.old = {name: tensor.detach().clone() for name, tensor in learner.model.state_dict().items()}

    def loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        past, seen = self._classes(learner)
        place = torch.zeros(outputs.shape[1], dtype=torch.long, device=outputs.device)
        place[seen] = torch.arange(len(seen), device=outputs.device)
        old = None
        if past:
            with torch.no_grad(), learner.evaluating():
                old = torch.func.functional_call(learner.model, self.old, (rows.inputs,))[:, past]
        return icarl_loss(outputs[:, seen], old, place[rows.targets])

    def predict(self, learner: Learner, rows: TaskRows) -> Any:
        """Return minus the squared distances to class means; the outputs before there are exemplars."""
        if not self.exemplars:
            return learner.outputs(rows)
        assert isinstance(learner, ClassLearner)
        means, known = self._class_means(learner)
        return nearest_mean(learner.features(rows.inputs), means, known)

    def after_task(self, learner: Learner, task: Task) -> None:
        """Choose the exemplars of the new classes, and cut those of the old ones."""
        assert isinstance(learner, ClassLearner)
        rows, (_, seen) = learner.train_rows(task), self._classes(learner)
        each = max(1, self.settings.capacity // len(seen))
        self.exemplars = {
            label: {name: tensor[:each] for name, tensor in kept.items()} for label, kept in self.exemplars.items()
        }
        features = functional.normalize(learner.map_rows(rows, lambda part: learner.features(part.inputs)), dim=1)
        for label in task.classes:
            places = (rows.targets == label).nonzero().flatten()
            if len(places):
                self.exemplars[str(label)] = rows.at(places[herded(features[places], each)]).tensors()
        self._means = None

    def _stored(self) -> list[TaskRows]:
        return [TaskRows.from_tensors(kept) for kept in self.exemplars.values()]

    def _classes(self, learner: Learner) -> tuple[list[int], list[int]]:
        """Return the classes of earlier tasks, and these followed by the present task's."""
        tasks = learner.stream.tasks
        past = sorted({one for task in tasks[: learner.task] for one in task.classes})
        return past, past + [one for one in tasks[learner.task].classes if one not in past]

    def _class_means(self, learner: ClassLearner) -> tuple[Tensor, Tensor]:
        """Return unit means [classes, width] of the exemplars' unit features, and which classes have exemplars."""
        if self._means is None or self._means[0] != learner.step:
            self._means = learner.step, *means_of(learner, joined(self._stored()))
        return self._means[1:]
