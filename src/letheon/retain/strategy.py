"""The strategy protocol: the hooks through which a method acts on the training loop.

A strategy is a class with only the hooks that its paper needs; a hook that it leaves out costs nothing. Strategies are
composed with `+`, see `letheon.retain.composition`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.stream import Task


class Strategy:
    """How a model learns a stream: the base of all strategies, and by itself naive training.

    Attributes:
        keeps: names of attributes that must survive a restart: tensors, lists or dictionaries of tensors, numbers,
            None, or anything with `state_dict` and `load_state_dict` (a `Memory`).
        wants: what the pass over a batch is made for. `outputs`: the model's outputs (without it the strategy makes
            its own passes); `features`: also what enters the head, as `rows.features`.
        kinds: of learners it can work with: `classes`, `texts`.
    """

    keeps: ClassVar[tuple[str, ...]] = ()
    wants: ClassVar[frozenset[str]] = frozenset({"outputs"})
    kinds: ClassVar[frozenset[str]] = frozenset({"classes", "texts"})

    def __init__(self, settings: Any = None) -> None:
        self.settings: Any = settings if settings is not None else getattr(type(self), "Settings", tuple)()

    # Once a run, once a task

    def prepare(self, learner: Learner) -> None:
        """Before the first task, and again when a run is continued (before `keeps` is filled): make the memory, wrap
        the model."""

    def before_task(self, learner: Learner, task: Task) -> None:
        """Before a task's first step: record old outputs, add a column. Not called again in a continued task."""

    def after_task(self, learner: Learner, task: Task) -> None:
        """After a task's last step: estimate importances, fill the memory, edit weights."""

    # What is learned; each of these must give the same when it is asked again in a continued task

    def rows(self, learner: Learner, task: Task) -> TaskRows:
        """The rows that are learned during the task: its own."""
        return learner.train_rows(task)

    def epochs(self, learner: Learner, task: Task) -> int:
        """How many passes are made over them; the run's setting."""
        return learner.settings.epochs

    def order(self, learner: Learner, rows: TaskRows, epoch: int) -> Int[Tensor, " m"]:
        """Places of the rows in the order of an epoch, cut into batches as it stands: a new permutation each epoch.

        A place may come more than once (views of one row).
        """
        return torch.randperm(len(rows), generator=learner.stream_generator("order", epoch))

    # Every step

    def before_step(self, learner: Learner, rows: TaskRows) -> None:
        """Before the loss is computed; `learner.total_loss(rows)` is that of the whole composition."""

    def replay(self, learner: Learner, rows: TaskRows) -> TaskRows | None:
        """Old rows that join the new rows' pass through the model; None for none."""
        return None

    def outputs(self, learner: Learner, rows: TaskRows) -> Any:
        """The model's outputs, in training and in evaluation: logits [n, classes], or `Scores` for texts."""
        return learner.forward(rows)

    def loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        """The loss of the new rows: mean cross-entropy."""
        return learner.loss(outputs, rows)

    def extra(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor | None:
        """A term that is added to it: a distillation, a penalty that autograd differentiates."""
        return None

    def replay_loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        """The loss of the rows that `replay` gave: mean cross-entropy."""
        return learner.loss(outputs, rows)

    def after_backward(self, learner: Learner, rows: TaskRows) -> None:
        """Gradients lie on the parameters and may be changed: add a penalty's, project, mask. Clipping comes after."""

    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        """The optimizer has moved the weights: update memories and path integrals."""

    # Restarts

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of `keeps`, by name."""
        state: dict[str, Tensor] = {}
        for name in self.keeps:
            _put(state, name, getattr(self, name))
        return state

    def load_state_dict(self, learner: Learner, state: dict[str, Tensor]) -> None:
        """Take them back, after `prepare`."""
        for name in self.keeps:
            setattr(self, name, _taken(state, name, getattr(self, name)))


def overrides(part: Strategy, hook: str) -> bool:
    """Whether a strategy says something at this moment."""
    return getattr(type(part), hook) is not getattr(Strategy, hook)


# `keeps` as tensors: a list's and a dictionary's tensors under NAME/KEY; a number as a tensor of no dimension


def _put(state: dict[str, Tensor], name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        state[name] = value.detach()
    elif isinstance(value, (int, float)):
        state[name] = torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.long)
    elif hasattr(value, "state_dict"):
        for key, item in value.state_dict().items():
            state[f"{name}/{key}"] = item
    elif isinstance(value, (list, tuple)):
        state[f"{name}#"] = torch.tensor(len(value))
        for number, item in enumerate(value):
            _put(state, f"{name}/{number}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _put(state, f"{name}/{key}", item)
    elif value is not None:
        raise TypeError(f"{name} is of a kind that a checkpoint cannot keep: {type(value).__name__}")


def _taken(state: dict[str, Tensor], name: str, now: Any) -> Any:
    """What was put under a name; `now` is what stands there, for objects that take their own state back."""
    if name in state:
        value = state[name]
        plain = isinstance(now, (int, float)) and value.dim() == 0
        return value.item() if plain else value
    if f"{name}#" in state:
        return [_taken(state, f"{name}/{number}", None) for number in range(int(state[f"{name}#"]))]
    inner = {key.removeprefix(f"{name}/"): t for key, t in state.items() if key.startswith(f"{name}/")}
    if hasattr(now, "load_state_dict"):
        now.load_state_dict(inner)
        return now
    if inner:
        keys = list(dict.fromkeys(key.split("/")[0].removesuffix("#") for key in inner))
        return {key: _taken(inner, key, None) for key in keys}
    return {} if isinstance(now, dict) else None
