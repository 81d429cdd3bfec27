"""Growing dual memory (GWR): prototypes are added where inputs are new, and their own transitions are replayed.

Paper:   Parisi et al., Lifelong Learning of Spatiotemporal Representations with Dual-Memory Recurrent
         Self-Organization, arXiv 1805.10966; growing when required after Marsland et al. 2002.
Differs: rows are images without time, so the context has depth 0 and only the order of arrival links nodes; the
         episodic layer learns the rows, the semantic layer the best episodic nodes, and replay trains the latter on the
         episodic layer's most frequent transitions. The semantic layer's nodes move to a row whose label they do not
         have, too. Nodes that have lost all their edges stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from letheon.core.registry import Checked, method
from letheon.retain.classes import ClassLearner
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task


@dataclass(frozen=True)
class Settings(Checked, positive=("capacity", "activity", "rate")):
    capacity: int = 500  # largest number of nodes of each layer
    activity: float = 0.3  # a_T on exp(-distance): the paper's 0.85 is for narrower inputs [inferred]
    habituated: float = 0.1  # h_T
    rate: float = 0.3  # ε_b of the best node; its neighbours move a hundredth of it
    replay: int = 3  # transitions per replayed trajectory; 0: no replay


TAU_BEST, TAU_NEIGHBOUR, KAPPA = 0.3, 0.1, 1.05  # habituation, Sec. III-A
OLDEST = 50  # age above which an edge is removed


def habituation(h: Any, tau: float, kappa: float = KAPPA) -> Any:
    """h + τ κ (1 - h) - τ, a number or a tensor: it falls from 1 towards 1 - 1/κ each time a node is used."""
    return h + tau * kappa * (1 - h) - tau


class Growing:
    """One layer of prototypes.

    Attributes:
        weight: [capacity, width] prototypes.
        habit: [capacity] habituation, from 1 (new) to near 0.
        label: [capacity, classes] counts of labels.
        age: [capacity, capacity] ages of edges, -1 where there is none.
        follows: [capacity, capacity] counts of transitions from one best node to the next.
        size: nodes in use.
    """

    KEPT = ("weight", "habit", "label", "age", "follows")

    def __init__(self, width: int, classes: int, settings: Settings) -> None:
        n = settings.capacity
        self.settings, self.size, self.last = settings, 0, -1
        self.weight, self.habit = torch.zeros(n, width), torch.ones(n)
        self.label, self.age = torch.zeros(n, classes), torch.full((n, n), -1.0)
        self.follows = torch.zeros(n, n)

    def nearest(self, row: Float[Tensor, " width"]) -> tuple[int, int, float]:
        """Return the best node, the second best, and the best node's activity exp(-distance)."""
        distance = (self.weight[: self.size] - row).square().sum(1)
        order = distance.topk(2, largest=False).indices.tolist()
        return order[0], order[1], float(torch.exp(-distance[order[0]]))

    def see(self, row: Float[Tensor, " width"], label: int, *, grow_on_error: bool = False) -> int:
        """Learn one row and return its node.

        Args:
            grow_on_error: add a node only where the best node's label is wrong as well (the semantic layer).
        """
        if self.size < 2:
            return self._used(self._insert(row), label)
        best, second, activity = self.nearest(row)
        wrong = int(self.label[best].argmax()) != label
        room = self.size < self.settings.capacity
        new = activity < self.settings.activity and float(self.habit[best]) < self.settings.habituated
        if new and room and (wrong or not grow_on_error):
            node = self._insert((self.weight[best] + row) / 2)
            self._join(node, best)
            self._join(node, second)
            self.age[best, second] = self.age[second, best] = -1  # the new node lies between them
            return self._used(node, label)
        self._adapt(row, best, second)
        return self._used(best, label)

    def _insert(self, weight: Tensor) -> int:
        node, self.size = self.size, self.size + 1
        self.weight[node] = weight
        return node

    def _adapt(self, row: Tensor, best: int, second: int) -> None:
        near = (self.age[best] >= 0).nonzero().flatten()
        self.weight[best] += self.settings.rate * self.habit[best] * (row - self.weight[best])
        self.weight[near] += 0.01 * self.settings.rate * self.habit[near, None] * (row - self.weight[near])
        self.habit[best] = habituation(float(self.habit[best]), TAU_BEST)
        self.habit[near] = habituation(self.habit[near], TAU_NEIGHBOUR)
        self.habit.clamp_(min=0.0)
        self.age[best, near] += 1
        self.age[near, best] += 1
        old = near[self.age[best, near] > OLDEST]
        self.age[best, old] = self.age[old, best] = -1
        self._join(best, second)

    def _join(self, a: int, b: int) -> None:
        self.age[a, b] = self.age[b, a] = 0

    def _used(self, node: int, label: int) -> int:
        self.label[node, label] += 1
        if self.last >= 0:
            self.follows[self.last, node] += 1
        self.last = node
        return node

    def trajectories(self, length: int) -> list[list[int]]:
        """Return a path from every node along the most frequent transitions."""
        counts, after = self.follows[: self.size, : self.size].max(1)
        next_of = torch.where(counts > 0, after, -1).tolist()
        found = []
        for node in range(self.size):
            path = [node]
            while len(path) <= length and next_of[path[-1]] >= 0:
                path.append(next_of[path[-1]])
            found.append(path)
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors of the layer."""
        state = {name: getattr(self, name) for name in self.KEPT}
        return state | {"size": torch.tensor(self.size), "last": torch.tensor(self.last)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        for name in self.KEPT:
            getattr(self, name).copy_(state[name])
        self.size, self.last = int(state["size"]), int(state["last"])


@method("strategy", "dual_memory", Settings, paper="1805.10966")
class DualMemory(Strategy):
    keeps: ClassVar[tuple[str, ...]] = ("episodic", "semantic")
    wants: ClassVar[frozenset[str]] = frozenset()
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})
    episodic: Growing
    semantic: Growing

    def prepare(self, learner: Learner) -> None:
        inputs = learner.train_rows(learner.stream.tasks[0]).inputs
        sizes = inputs[0].numel(), learner.stream.classes
        self.episodic, self.semantic = (Growing(*sizes, self.settings) for _ in range(2))
        self.classes = learner.head.out_features if isinstance(learner, ClassLearner) else sizes[1]

    def loss(self, learner: Learner, rows: TaskRows, outputs: None) -> Tensor:
        """Learn the rows one by one, without a gradient, and return 0."""
        for row, label in zip(rows.inputs.flatten(1).cpu(), rows.targets.tolist(), strict=True):
            node = self.episodic.see(row, label)
            self.semantic.see(self.episodic.weight[node].clone(), label, grow_on_error=True)
        return torch.zeros(())

    def after_task(self, learner: Learner, task: Task) -> None:
        """Replay the episodic layer's transitions to the semantic layer, without any row."""
        if not self.settings.replay:
            return
        labels = self.episodic.label.argmax(1).tolist()
        weights = self.episodic.weight.clone()
        for path in self.episodic.trajectories(self.settings.replay):
            for node in path:
                self.semantic.see(weights[node], labels[node], grow_on_error=True)

    def outputs(self, learner: Learner, rows: TaskRows) -> Tensor:
        """Return the log label shares [n, classes] of the nearest semantic node."""
        logits = torch.full((len(rows), self.classes), -20.0)
        if self.semantic.size:
            inputs = rows.inputs.flatten(1).cpu()
            best = torch.cdist(inputs, self.semantic.weight[: self.semantic.size]).argmin(1)
            counts = self.semantic.label[best]
            shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).clamp(min=1e-6).log()
            logits[:, : shares.shape[1]] = shares
        return logits.to(rows.inputs.device)
