"""The strategy protocol: the hooks through which a method acts on the training loop.

A strategy is a class with only the hooks that its paper needs; a hook that it leaves out costs nothing. Strategies are
composed with `+`, see `letheon.retain.composition`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from letheon.retain.learner import Learner
from letheon.retain.rows import TaskRows
from letheon.retain.stream import Task


@dataclass(frozen=True)
class NoSettings:
    """The options of a strategy that has none."""


class Strategy:
    """The base of all strategies; by itself it is naive training.

    Attributes:
        keeps: names of attributes that checkpoints hold: tensors, lists or dictionaries of tensors, numbers, None, or
            objects with `state_dict` and `load_state_dict` (a `Memory`).
        wants: results of the pass over a batch. `outputs`: the model's outputs (without it the strategy makes its own
            passes); `features`: also the inputs of the head, as `rows.features`.
        kinds: learners that the strategy supports: `classes`, `texts`.
        divisible: whether processes may each take a part of a step's rows: every loss is `learner.loss` of new or
            replayed rows, and all else depends on weights, summed gradients and the step's whole rows only.
        of_weights: names among `keeps` of lists with one tensor per weight, which lie in shards where the weights do;
            then the strategy treats each entry of a weight by itself, or sums over all with `over_shards`. None: it
            needs whole weights.
    """

    keeps: ClassVar[tuple[str, ...]] = ()
    wants: ClassVar[frozenset[str]] = frozenset({"outputs"})
    kinds: ClassVar[frozenset[str]] = frozenset({"classes", "texts"})
    divisible: ClassVar[bool] = False
    of_weights: ClassVar[tuple[str, ...] | None] = None

    Settings: ClassVar[type] = NoSettings  # `letheon.core.registry.method` sets it

    def __init__(self, settings: Any = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()

    def overrides(self, hook: str) -> bool:
        """Return whether the strategy overrides a hook."""
        return getattr(type(self), hook) is not getattr(Strategy, hook)

    # Once per run, once per task

    def prepare(self, learner: Learner) -> None:
        """Set up before the first task: make the memory, wrap the model.

        A resumed run calls it again, before the attributes in `keeps` are restored.
        """

    def before_task(self, learner: Learner, task: Task) -> None:
        """Act before a task's first step: record old outputs, add a column. A resumed task does not repeat it."""

    def after_task(self, learner: Learner, task: Task) -> None:
        """Act after a task's last step: estimate importances, fill the memory, edit weights."""

    # The rows of a task; a resumed task calls these again, and they must return the same

    def rows(self, learner: Learner, task: Task) -> TaskRows:
        """Return the training rows of the task; by default its own rows."""
        return learner.train_rows(task)

    def epochs(self, learner: Learner, task: Task) -> int:
        """Return the number of passes over the rows; by default the run's setting."""
        return learner.settings.epochs

    def order(self, learner: Learner, rows: TaskRows, epoch: int) -> Int[Tensor, " m"]:
        """Return the order of the rows in an epoch; by default a new permutation per epoch.

        The loop cuts the order into batches. A row may come more than once (views of one row).
        """
        return torch.randperm(len(rows), generator=learner.stream_generator("order", epoch))

    # Every step

    def before_step(self, learner: Learner, rows: TaskRows) -> None:
        """Act before the loss is computed; `learner.total_loss(rows)` is the loss of the whole composition."""

    def replay(self, learner: Learner, rows: TaskRows) -> TaskRows | None:
        """Return old rows that join the new rows' pass through the model, or None."""
        return None

    def outputs(self, learner: Learner, rows: TaskRows) -> Any:
        """Return the outputs, in training and in evaluation: logits [n, classes], or `Scores` for texts."""
        return learner.forward(rows)

    def predict(self, learner: Learner, rows: TaskRows) -> Any:
        """Return the logits [n, classes] by which a network tells classes in evaluation; by default the outputs."""
        return learner.outputs(rows)

    def logits(self, learner: Learner, outputs: Tensor, rows: TaskRows) -> Tensor:
        """Return the logits that a network's cross-entropies take; by default the outputs as they are."""
        return outputs

    def loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        """Return the loss of the new rows; by default the mean cross-entropy."""
        return learner.loss(outputs, rows)

    def extra(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor | None:
        """Return a term to add to the loss, such as a distillation or a differentiable penalty, or None."""
        return None

    def replay_loss(self, learner: Learner, rows: TaskRows, outputs: Any) -> Tensor:
        """Return the loss of the rows from `replay`; by default the mean cross-entropy."""
        return learner.loss(outputs, rows)

    def after_backward(self, learner: Learner, rows: TaskRows) -> None:
        """Change the parameters' gradients, before clipping: add a penalty's gradient, project, mask."""

    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        """Act after the optimizer's step: update memories and path integrals."""

    # What it holds

    def held(self, learner: Learner) -> dict[str, int]:
        """Return the bytes that the strategy holds beside the model, by attribute in `keeps`.

        These are stored rows, copies of weights and importances: all that a later task needs of earlier ones. A
        strategy that goes back to rows outside `keeps` counts them too.
        """
        sizes: dict[str, int] = {}
        for key, tensor in self.state_dict().items():
            if not key.endswith("#"):  # the length of a list
                name = key.partition("/")[0]
                sizes[name] = sizes.get(name, 0) + tensor.nbytes
        return sizes

    # Restarts

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of the attributes in `keeps`, by name."""
        state: dict[str, Tensor] = {}
        for name in self.keeps:
            _put(state, name, getattr(self, name))
        return state

    def load_state_dict(self, learner: Learner, state: dict[str, Tensor]) -> None:
        """Restore the attributes in `keeps`, after `prepare`."""
        for name in self.keeps:
            setattr(self, name, _taken(state, name, getattr(self, name)))


# Attributes as tensors: lists and dictionaries as NAME/KEY, a number as a tensor without dimensions


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
        raise TypeError(f"{name}: a checkpoint cannot hold a {type(value).__name__}")


def _taken(state: dict[str, Tensor], name: str, now: Any) -> Any:
    """Return the attribute stored under a name; `now` is its present value, which may restore its own state."""
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
