"""Metrics of continual learning, as pure functions of one table of evaluations.

Paper:   De Lange et al., Continual evaluation for lifelong learning, arXiv 2205.13452: ACC, FORG, min-ACC, WC-ACC,
         windowed forgetting and plasticity, the split of a gradient; Lopez-Paz & Ranzato 2017 (GEM): BWT, FWT.
Differs: the windowed rise is searched from the window's minima; the authors' code looks for it among the drops and
         finds too little. Every metric is a share (0 to 1); the papers print them times 100.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int


@dataclass
class Curve:
    """All evaluations of a run in order of time; values that were not measured are NaN.

    Attributes:
        tasks: number of tasks in the stream.
        step: [n] optimizer steps before each evaluation.
        task: [n] number of the current task, -1 before the first.
        accuracy, loss: [n, tasks] values on each task's test rows.
        ends: the step at which each finished task ended.
    """

    tasks: int
    step: list[int] = field(default_factory=list)
    task: list[int] = field(default_factory=list)
    accuracy: list[list[float]] = field(default_factory=list)
    loss: list[list[float]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, step: int, task: int, accuracy: Sequence[float], loss: Sequence[float]) -> None:
        """Add an evaluation of the first tasks; it replaces an evaluation of the same task at the same step."""
        missing = [float("nan")] * (self.tasks - len(accuracy))
        if self.step and self.step[-1] == step and self.task[-1] == task:
            for column in (self.step, self.task, self.accuracy, self.loss):
                column.pop()
        self.step.append(step)
        self.task.append(task)
        self.accuracy.append([*accuracy, *missing])
        self.loss.append([*loss, *missing])

    def accuracies(self) -> Float[np.ndarray, "n tasks"]:
        """Return the accuracies as one array."""
        return np.asarray(self.accuracy, dtype=float).reshape(-1, self.tasks)

    def end_of(self, task: int) -> int:
        """Return the index of the evaluation at the end of a task."""
        return max(i for i, step in enumerate(self.step) if self.task[i] == task and step == self.ends[task])

    def matrix(self, of: str = "accuracy") -> Float[np.ndarray, "rows tasks"]:
        """Return R: row 0 before the first task, row i after task i; column j for the test rows of task j + 1."""
        values = np.asarray(getattr(self, of), dtype=float).reshape(-1, self.tasks)
        return values[[0, *(self.end_of(task) for task in range(len(self.ends)))]]

    def to_json(self) -> dict[str, Any]:
        """Return all fields for JSON; NaN becomes None."""

        def plain(rows: list[list[float]]) -> list[list[float | None]]:
            return [[None if value != value else value for value in row] for row in rows]

        head = {"tasks": self.tasks, "step": self.step, "task": self.task, "ends": self.ends}
        return head | {"accuracy": plain(self.accuracy), "loss": plain(self.loss)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the curve that `to_json` described."""

        def full(rows: list[list[float | None]]) -> list[list[float]]:
            return [[float("nan") if value is None else value for value in row] for row in rows]

        own = {name: content[name] for name in ("tasks", "step", "task", "ends")}
        return cls(**own, accuracy=full(content["accuracy"]), loss=full(content["loss"]))


# From the matrix R [T + 1, T], row 0 before the first task


def average_accuracy(matrix: Float[np.ndarray, "rows tasks"]) -> float:
    """ACC = 1/k Σ_{i≤k} R[k, i] after the last task k."""
    k = len(matrix) - 1
    return float(matrix[-1, :k].mean())


def forgetting(matrix: Float[np.ndarray, "rows tasks"]) -> float | None:
    """FORG = 1/(k-1) Σ_{i<k} (R[i, i] - R[k, i]): mean accuracy lost since each task's end; None for one task."""
    transfer = backward_transfer(matrix)
    return None if transfer is None else 0.0 - transfer


def backward_transfer(matrix: Float[np.ndarray, "rows tasks"]) -> float | None:
    """BWT = 1/(k-1) Σ_{i<k} (R[k, i] - R[i, i]); None for one task."""
    k = len(matrix) - 1
    if k < 2:
        return None
    return float(np.mean([matrix[-1, i] - matrix[i + 1, i] for i in range(k - 1)]))


def forward_transfer(matrix: Float[np.ndarray, "rows tasks"]) -> float | None:
    """FWT = 1/(k-1) Σ_{i>1} (R[i-1, i] - R[0, i]): mean gain on a task from earlier tasks, before it is learned."""
    k = len(matrix) - 1
    if k < 2:
        return None
    return float(np.mean([matrix[i, i] - matrix[0, i] for i in range(1, k)]))


# From the whole curve


def minimum_accuracy(curve: Curve) -> float | None:
    """min-ACC = 1/(k-1) Σ_{i<k} of task i's lowest accuracy after its own end; None for one task."""
    return _since_end(curve, "accuracy", np.fmin)


def _since_end(curve: Curve, of: str, worst: np.ufunc) -> float | None:
    """Return the mean over old tasks of the worst value between a task's own end and the last task's."""
    k = len(curve.ends)
    if k < 2:
        return None
    values = np.asarray(getattr(curve, of), dtype=float).reshape(-1, curve.tasks)
    last = curve.end_of(k - 1)
    return float(np.mean([worst.reduce(values[curve.end_of(i) + 1 : last + 1, i]) for i in range(k - 1)]))


def maximum_loss(curve: Curve) -> float | None:
    """Return the mean over old tasks of the highest loss after a task's own end (nats); None for one task.

    min-ACC of the loss, for texts, whose accuracy counts whole answers only.
    """
    return _since_end(curve, "loss", np.fmax)


def worst_case_accuracy(curve: Curve) -> float:
    """WC-ACC = 1/k R[k, k] + (1 - 1/k) min-ACC: a lower bound of ACC over the whole time."""
    k = len(curve.ends)
    newest = float(curve.accuracies()[curve.end_of(k - 1), k - 1])
    minimum = minimum_accuracy(curve)
    return newest if minimum is None else newest / k + (1 - 1 / k) * minimum


def largest_drop(values: Float[np.ndarray, " n"], steps: Int[np.ndarray, " n"], window: int) -> float:
    """max over m < n, n - m < window steps, of values[m] - values[n]; at least 0."""
    known = ~np.isnan(values)
    values, steps = values[known], np.asarray(steps)[known]
    best, start = 0.0, 0
    for now in range(1, len(values)):
        while steps[now] - steps[start] >= window:
            start += 1
        if start < now:
            best = max(best, float(values[start:now].max() - values[now]))
    return best


def windowed_forgetting(curve: Curve, window: int) -> float:
    """WF: the largest drop of accuracy within a window of steps, averaged over the tasks."""
    return _windowed(curve, window, 1.0)


def windowed_plasticity(curve: Curve, window: int) -> float:
    """WP: the largest rise of accuracy within a window of steps, averaged over the tasks."""
    return _windowed(curve, window, -1.0)


def _windowed(curve: Curve, window: int, sign: float) -> float:
    """Average over tasks, each from the start of its own training: a task cannot be forgotten before."""
    values, steps = curve.accuracies(), np.asarray(curve.step)
    found = []
    for i in range(len(curve.ends)):
        seen = steps >= (curve.ends[i - 1] if i else 0)
        found.append(largest_drop(sign * values[seen, i], steps[seen], window))
    return float(np.mean(found))


def learning_curve_area(curve: Curve, evaluations: int = 10) -> float:
    """LCA: mean over tasks of the current task's accuracy over its first evaluations."""
    values, task = curve.accuracies(), np.asarray(curve.task)
    return float(np.mean([np.nanmean(values[task == i, i][:evaluations]) for i in range(len(curve.ends))]))


def summary(curve: Curve) -> dict[str, float | None]:
    """Return all metrics by name; windowed metrics only where evaluations lie between the tasks' ends."""
    matrix = curve.matrix()
    found: dict[str, float | None] = {
        "average accuracy": average_accuracy(matrix),
        "forgetting": forgetting(matrix),
        "backward transfer": backward_transfer(matrix),
        "forward transfer": forward_transfer(matrix),
        "minimum accuracy": minimum_accuracy(curve),
        "worst-case accuracy": worst_case_accuracy(curve),
        "average loss": float(np.mean(curve.matrix("loss")[-1, : len(curve.ends)])),
        "maximum loss": maximum_loss(curve),
    }
    if len(curve.step) > 1 + len(curve.ends):
        for window in (10, 100):
            found[f"windowed forgetting {window}"] = windowed_forgetting(curve, window)
            found[f"windowed plasticity {window}"] = windowed_plasticity(curve, window)
        found["learning curve area"] = learning_curve_area(curve)
    return found
