"""Progressive networks: every task has its own network, which also reads the frozen networks of earlier tasks.

Paper:   Rusu et al., Progressive Neural Networks, arXiv 1606.04671, Eq. 2 and the adapters of Sec. 2.
Differs: for networks of linear layers with one activation; all earlier columns share one adapter per layer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.registry import Checked, method
from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task


@dataclass(frozen=True)
class Settings(Checked, positive=("width",)):
    width: int = 32  # width of the adapter that reads the earlier columns
    scale: float = 0.1  # largest first factor a of a lateral input (the paper: small, random)


class Lateral(nn.Module):
    """U act(V [a ∘ h]) of the earlier columns' features h, with one factor a per column."""

    def __init__(self, widths: list[int], narrow: int, out: int, act: nn.Module, scale: float) -> None:
        super().__init__()
        self.scales = nn.Parameter(scale * torch.rand(len(widths)))
        self.project = nn.Linear(sum(widths), narrow)
        self.lift = nn.Linear(narrow, out, bias=False)
        self.act = act

    def forward(self, features: list[Tensor]) -> Tensor:
        weighted = [a * h for a, h in zip(self.scales, features, strict=True)]
        lifted: Tensor = self.lift(self.act(self.project(torch.cat(weighted, 1))))
        return lifted


class Column(nn.Module):
    """One task's network; `laterals[i]` feeds layer i + 1 from the earlier columns."""

    def __init__(self, layers: list[nn.Linear], before: int, act: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.layers, self.act = nn.ModuleList(layers), act
        self.laterals = nn.ModuleList(
            Lateral([layer.in_features] * before, settings.width, layer.out_features, act, settings.scale)
            for layer in (layers[1:] if before else [])
        )

    def forward(self, inputs: Tensor, earlier: list[list[Tensor]]) -> list[Tensor]:
        """Return every layer's output, given the earlier columns' outputs; the last output is the logits."""
        found: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            value = layer(inputs if i == 0 else found[-1])
            if i and earlier:
                value = value + self.laterals[i - 1]([column[i - 1] for column in earlier])
            found.append(self.act(value) if i + 1 < len(self.layers) else value)
        return found


class ProgressiveNet(nn.Module):
    """One column per task; column k gives the logits of task k."""

    def __init__(self, model: nn.Sequential, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.columns = nn.ModuleList()
        self.template = [module for module in model if isinstance(module, nn.Linear)]
        others = [module for module in model if not isinstance(module, (nn.Linear, nn.Flatten))]
        self.act = others[0] if others else nn.ReLU()

    def grow(self) -> Column:
        """Add a column with new weights in the shapes of the first."""
        layers = [copy.deepcopy(layer) for layer in self.template]
        if self.columns:
            for layer in layers:
                layer.reset_parameters()
        self.columns.append(Column(layers, len(self.columns), self.act, self.settings))
        column = self.columns[-1]
        assert isinstance(column, Column)
        return column.to(layers[0].weight.device)

    def forward(self, inputs: Tensor, task: int) -> Tensor:
        earlier: list[list[Tensor]] = []
        for column in self.columns[: task + 1]:
            earlier.append(column(inputs.flatten(1), earlier))
        return earlier[-1][-1]


@method("strategy", "progressive", Settings, paper="1606.04671", needs={"task number"})
class Progressive(Strategy):
    keeps: ClassVar[tuple[str, ...]] = ("columns",)
    kinds: ClassVar[frozenset[str]] = frozenset({"classes"})
    columns: int

    def prepare(self, learner: Learner) -> None:
        if learner.stream.scenario != "task":
            raise InputError(
                f"progressive networks must know the task, which is hidden in scenario {learner.stream.scenario!r}",
                "use a stream with scenario 'task', such as split-digits/task",
            )
        model = learner.model
        plain = (nn.Linear, nn.Flatten, nn.ReLU, nn.Tanh, nn.GELU, nn.LeakyReLU)
        if not isinstance(model, nn.Sequential) or not all(isinstance(module, plain) for module in model):
            raise InputError("progressive networks need nn.Sequential of linear layers", "give such a model")
        learner.model = self.net = ProgressiveNet(model, self.settings).to(learner.device)
        self.columns = 0
        self._grow(learner)

    def _grow(self, learner: Learner) -> None:
        self.columns += 1
        learner.train_only(dict(self.net.grow().to(learner.device).named_parameters()))

    def before_task(self, learner: Learner, task: Task) -> None:
        if learner.task == self.columns:
            self._grow(learner)

    def outputs(self, learner: Learner, rows: TaskRows) -> Tensor:
        """Pass each row through its task's column, or through the last column where that task has none yet."""
        tasks = rows.task.clamp(max=self.columns - 1)
        numbers = torch.unique(tasks).tolist()
        if len(numbers) == 1:
            return self.net(rows.inputs, numbers[0])
        places = [(tasks == number).nonzero().flatten() for number in numbers]
        parts = [self.net(rows.inputs[at], number) for at, number in zip(places, numbers, strict=True)]
        return torch.cat(parts)[torch.cat(places).argsort()]

    def load_state_dict(self, learner: Learner, state: dict[str, Tensor]) -> None:
        wanted = int(state["columns"])
        while self.columns < wanted:
            self._grow(learner)
