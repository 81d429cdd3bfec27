"""ClassLearner: a module that learns tasks of tensors and class numbers; `TextLearner` (texts.py) is its sibling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from letheon.core.errors import InputError
from letheon.core.model.hooks import on_inputs
from letheon.core.rows.sampling import stream_seed
from letheon.retain.composition import Composition
from letheon.retain.learner import EVALUATION_BATCH, Learner
from letheon.retain.rows import TaskRows, joined
from letheon.retain.settings import LearnSettings
from letheon.retain.stream import Stream, Task


class ClassLearner(Learner):
    """An `nn.Module` that maps inputs [n, ...] to logits [n, classes], and tasks of tensors."""

    kind = "classes"

    def __init__(self, model: nn.Module, stream: Stream, strategy: Composition, settings: LearnSettings) -> None:
        super().__init__(model, stream, strategy, settings)
        self.classes = self._check_head()
        self.mask = self._task_mask() if stream.scenario == "task" else None
        self._body: nn.Module | None = None  # the layers before the head, where they are a Sequential
        self._train: dict[str, TaskRows] = {}
        self._tests: dict[int | None, tuple[TaskRows, list[int]]] = {}

    def _check_head(self) -> int:
        """Return the number of outputs, from a pass over one row; refuse a model that does not fit the stream."""
        rows = self._rows(self.stream.tasks[0].train).part(0, 1)
        try:
            with torch.no_grad(), self.evaluating():
                found = self.model(rows.inputs)
        except RuntimeError as error:
            shape = tuple(rows.inputs.shape[1:])
            raise InputError(
                f"the model cannot take rows of shape {shape}: {str(error).splitlines()[0]}",
                "flatten the images, or use another model",
            ) from None
        if not isinstance(found, Tensor) or found.dim() != 2:
            raise InputError("the model's output is no tensor [rows, classes]", "return logits")
        for task in self.stream:
            if task.classes and max(task.classes) >= found.shape[1]:
                raise InputError(
                    f"task {task.name}: class {max(task.classes)}, the model's head has {found.shape[1]} outputs",
                    f"give the head {self.stream.classes} outputs, or number the classes from 0",
                )
        return int(found.shape[1])

    def _task_mask(self) -> Tensor:
        """Return a mask [tasks, classes]: 0 where a class belongs to a task, minus infinity elsewhere."""
        mask = torch.full((len(self.stream), self.classes), -torch.inf, device=self.device)
        for number, task in enumerate(self.stream):
            mask[number, list(task.classes)] = 0.0
        return mask

    def _rows(self, data: Any) -> TaskRows:
        if not isinstance(data, TaskRows):
            raise InputError("a module learns tasks of tensors, this stream has texts", "give a language model")
        return data.to(self.device)

    def train_rows(self, task: Task) -> TaskRows:
        if task.name not in self._train:
            self._train[task.name] = self._rows(task.train)
        return self._train[task.name]

    # Passes

    @property
    def head(self) -> nn.Linear:
        """The model's last linear layer."""
        layers = [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise InputError("the model has no linear layer as its head", "end it with nn.Linear")
        return layers[-1]

    def forward(self, rows: TaskRows) -> Tensor:
        with _normalising(self.model, len(rows)):
            if "features" not in self.strategy.wants:
                return self.model(rows.inputs)
            outputs, rows.features = self._with_features(rows.inputs)
            return outputs

    def features(self, inputs: Tensor) -> Tensor:
        """Return the hidden states [n, width] that enter the head."""
        return self._with_features(inputs)[1]

    def _with_features(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.model, nn.Sequential) and isinstance(self.model[-1], nn.Linear):
            if self._body is None:
                self._body = self.model[:-1]  # the same modules; no hook is needed
            features = self._body(inputs)
            return self.model[-1](features), features
        found: list[Tensor] = []
        with on_inputs({"head": self.head}, lambda _, entering: found.append(entering)):
            outputs = self.model(inputs)
        return outputs, found[-1]

    def masked(self, outputs: Tensor, task: Tensor) -> Tensor:
        """Return the logits; in task-incremental streams classes of other tasks become minus infinity."""
        return outputs if self.mask is None else outputs + self.mask[task]

    def losses_of(self, outputs: Tensor, rows: TaskRows) -> Tensor:
        return functional.cross_entropy(self._of_loss(outputs, rows), rows.targets, reduction="none")

    def loss(self, outputs: Tensor, rows: TaskRows) -> Tensor:
        return functional.cross_entropy(self._of_loss(outputs, rows), rows.targets)

    def _of_loss(self, outputs: Tensor, rows: TaskRows) -> Tensor:
        return self.masked(self.strategy.logits(self, outputs, rows), rows.task)

    def split(self, outputs: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        return list(torch.split(outputs, list(sizes)))

    # Evaluation

    @torch.no_grad()
    def evaluate(self, tasks: int, most: int | None = None) -> tuple[list[float], list[float]]:
        rows, ends = self._test_rows(most)
        sizes = [end - start for start, end in zip([0, *ends[: tasks - 1]], ends[:tasks], strict=True)]
        rows = rows.part(0, ends[tasks - 1]) if tasks < len(ends) else rows
        with self.evaluating():
            pieces = [rows.part(i, i + EVALUATION_BATCH) for i in range(0, len(rows), EVALUATION_BATCH)]
            logits = torch.cat([self.masked(self.strategy.predict(self, piece), piece.task) for piece in pieces])
        right = (logits.argmax(1) == rows.targets).double()
        losses = functional.cross_entropy(logits, rows.targets, reduction="none").double()
        accuracy, loss = ([float(part.mean()) for part in torch.split(each, sizes)] for each in (right, losses))
        return accuracy, loss

    def _test_rows(self, most: int | None) -> tuple[TaskRows, list[int]]:
        """Return the test rows of all tasks, joined, and the index at which each task ends."""
        if most not in self._tests:
            parts = []
            for number, task in enumerate(self.stream):
                rows = self._rows(task.test)
                generator = torch.Generator().manual_seed(stream_seed(0, "evaluation", number))
                parts.append(rows if most is None else rows.sample(most, generator))
            ends = torch.tensor([len(part) for part in parts]).cumsum(0).tolist()
            self._tests[most] = joined(parts), ends
        return self._tests[most]


@contextmanager
def _normalising(model: nn.Module, rows: int) -> Iterator[None]:
    """Let batch normalisation of vectors use running statistics for a batch of one row, which has none of its own."""
    norms = [one for one in model.modules() if isinstance(one, nn.BatchNorm1d) and one.training] if rows == 1 else []
    try:
        for one in norms:
            one.eval()
        yield
    finally:
        for one in norms:
            one.train()
