"""Learner: a model that is learning a stream, as strategies see it.

`ClassLearner` (classes.py) has an `nn.Module` and tensors, `TextLearner` (texts.py) a language model and examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from letheon.core.atomic import atomic_folder, canonical_hash
from letheon.core.errors import InputError, TrainingError
from letheon.core.rows.sampling import stream_seed
from letheon.core.training.gradients import Vector
from letheon.core.workers import ALONE, Workers
from letheon.retain.composition import Composition
from letheon.retain.descent import make_optimizer
from letheon.retain.memory import Memory, Policy
from letheon.retain.rows import TaskRows, bytes_of, joined
from letheon.retain.settings import LearnSettings
from letheon.retain.stream import Stream, Task

# Modules that act alike in training and in evaluation.
PLAIN = {nn.Linear, nn.Sequential, nn.ReLU, nn.Flatten, nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.Tanh, nn.GELU}
# Rows per pass without gradients.
EVALUATION_BATCH = 4096


class Learner:
    """A model that learns a stream with a strategy.

    Attributes:
        kind: `classes` or `texts`.
        model: the module; its weights change in place.
        parameters: the trained parameters by name; `weights` is the same as a list.
        task, epoch: numbers of the current task and epoch, from 0; task -1 before the first.
        step: optimizer steps so far; `task_step`, `task_steps`: steps so far and in all of this task.
        total_steps: steps of the whole stream, where every task has as many epochs as the settings say.
        generator: the generator for the strategies' random draws, on the CPU; checkpoints hold its state.
        workers: the processes that each take a part of every step's rows; a module has one.
    """

    kind: ClassVar[Literal["classes", "texts"]]
    workers: Workers = ALONE

    def __init__(self, model: nn.Module, stream: Stream, strategy: Composition, settings: LearnSettings) -> None:
        self.model, self.stream, self.strategy, self.settings = model, stream, strategy, settings
        self.device = next(model.parameters()).device
        self.task, self.epoch, self.step, self.task_step, self.task_steps = -1, 0, 0, 0, 0
        self.generator = torch.Generator().manual_seed(stream_seed(settings.seed, "strategy"))
        self.losses: list[Tensor] = []
        self.parameters: dict[str, nn.Parameter] = {}
        self.weights: list[nn.Parameter] = []
        self.start: dict[str, Tensor] = {}
        self.train_only({name: p for name, p in model.named_parameters() if p.requires_grad})
        size, epochs = settings.batch_size, settings.epochs
        self.total_steps = sum(epochs * -(-len(task.train) // size) for task in stream)

    def planned_steps(self) -> int:
        """Return the steps of the whole stream as far as they are known: a strategy may take more of them in a task."""
        size, epochs = self.settings.batch_size, self.settings.epochs
        later = sum(epochs * -(-len(task.train) // size) for task in self.stream.tasks[self.task + 1 :])
        return self.step - self.task_step + self.task_steps + later

    # Rows

    def train_rows(self, task: Task) -> TaskRows:
        """Return a task's training rows on the model's device."""
        raise NotImplementedError  # see ClassLearner and TextLearner

    def memory(self, capacity: int, policy: Policy = "reservoir") -> Memory:
        """Return an empty replay memory that draws from the learner's generator.

        Raises:
            InputError: the capacity exceeds the rows of the whole stream.
        """
        total = sum(len(task.train) for task in self.stream)
        if capacity > total:
            raise InputError(
                f"a memory of {capacity} rows for a stream of {total}",
                f"that is joint training: use the strategy joint, or a capacity of at most {total}",
            )
        return Memory(capacity, policy, generator=self.generator, device=self.device)

    def stream_generator(self, name: str, number: int = 0) -> torch.Generator:
        """Return the generator of a named random stream of this task, in the same state at every call."""
        return torch.Generator().manual_seed(stream_seed(self.settings.seed, f"{name}/{self.task}", number))

    # Several processes, see TextLearner

    @property
    def sharded(self) -> bool:
        """Whether the weights, and all vectors of their length, are only this process's part of the whole ones."""
        return False

    def whole(self, weight: str | None, tensor: Tensor) -> Tensor | None:
        """Return a copy of a tensor; in shards that of a weight is put together in process 0, and is None elsewhere.

        Args:
            weight: name of the weight to whose shape the tensor belongs; None if it is the same in all processes.
        """
        return tensor.detach().clone().contiguous()

    def part(self, weight: str | None, tensor: Tensor) -> Tensor:
        """Return this process's part of what `whole` returned."""
        return tensor

    def release(self, gather: bool) -> None:
        """Leave the model whole and plain; with `gather` process 0 gets the trained weights of all shards."""

    def own_part(self, rows: TaskRows) -> TaskRows:
        """Return the rows of a step that this process takes: all, where it is the only one."""
        return rows

    def summed(self, loss: Tensor) -> Tensor:
        """Sum the gradients over processes; return the loss, summed over them."""
        return loss.detach()

    def any_process(self, here: bool) -> bool:
        """Return whether something is so in any process."""
        return here

    # Passes

    def forward(self, rows: TaskRows) -> Any:
        """Return the model's own outputs; fill `rows.features` where the strategy wants features."""
        raise NotImplementedError  # see ClassLearner and TextLearner

    def outputs(self, rows: TaskRows) -> Any:
        """Return the outputs as the strategy computes them."""
        return self.strategy.outputs(self, rows)

    def losses_of(self, outputs: Any, rows: TaskRows) -> Tensor:
        """Return the cross-entropy [n] per row (nats); for texts the mean over a row's answer tokens."""
        raise NotImplementedError  # see ClassLearner and TextLearner

    def loss(self, outputs: Any, rows: TaskRows) -> Tensor:
        """Return the mean cross-entropy (nats) over rows, for texts over all answer tokens."""
        raise NotImplementedError  # see ClassLearner and TextLearner

    def split(self, outputs: Any, sizes: Sequence[int]) -> list[Any]:
        """Split the outputs of joined rows into the outputs of each part."""
        raise NotImplementedError  # see ClassLearner and TextLearner

    def total_loss(self, rows: TaskRows) -> Tensor:
        """Return the composition's loss: new rows, added terms and replayed rows, in one pass through the model."""
        strategy = self.strategy
        replayed = []
        for part in strategy.replaying:
            old = part.replay(self, rows)
            if old is not None:
                replayed.append((part, self.own_part(old)))
        rows = self.own_part(rows)
        outputs = None
        others: list[Any] = []
        if replayed:
            together = joined([rows, *(old for _, old in replayed)])
            sizes = [len(rows), *(len(old) for _, old in replayed)]
            outputs, *others = self.split(self.outputs(together), sizes)
            if together.features is not None:
                rows.features, *parts = torch.split(together.features, sizes)
                for (_, old), features in zip(replayed, parts, strict=True):
                    old.features = features
        elif "outputs" in strategy.wants:
            outputs = self.outputs(rows)
        loss: Tensor = strategy.loss(self, rows, outputs)
        for extra in strategy.extras:
            term = extra(self, rows, outputs)
            if term is not None:
                loss = loss + term
        for (part, old), seen in zip(replayed, others, strict=True):
            loss = loss + part.replay_loss(self, old, seen)
        return loss

    @torch.no_grad()
    def map_rows(self, rows: TaskRows, work: Callable[[TaskRows], Tensor], size: int = EVALUATION_BATCH) -> Tensor:
        """Apply `work` to all rows in evaluation mode, without gradients, in large batches; return [n, ...]."""
        with self.evaluating():
            return torch.cat([work(rows.part(i, i + size)) for i in range(0, len(rows), size)])

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within the block the model is in evaluation mode; afterwards every module has its own mode again."""
        changed = [module for module in self.model.modules() if module.training] if self._modes_matter else []
        for module in changed:
            module.training = False
        try:
            yield
        finally:
            for module in changed:
                module.training = True

    @property
    def _modes_matter(self) -> bool:
        """Whether some module behaves differently in training; determined once."""
        if not hasattr(self, "_modal"):
            self._modal = any(type(module) not in PLAIN for module in self.model.modules())
        return self._modal

    # Gradients

    def gradients(self) -> Vector:
        """Return the weights' gradients, one tensor per parameter; zero where there is none."""
        return [torch.zeros_like(w) if w.grad is None else w.grad for w in self.weights]

    def set_gradients(self, vector: Sequence[Tensor]) -> None:
        """Set the weights' gradients."""
        for weight, gradient in zip(self.weights, vector, strict=True):
            weight.grad = gradient

    def gradient_of(self, loss: Tensor) -> Vector:
        """Return the gradient of a loss; the gradients on the weights stay as they are."""
        found = torch.autograd.grad(loss, self.weights, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for w, g in zip(self.weights, found, strict=True)]

    def clipped(self) -> None:
        """Clip the gradient's norm to the settings' limit."""
        limit = self.settings.clip
        limit = self.default_clip if limit == 0 else limit
        if limit is not None:
            self._clip(limit)

    def _clip(self, limit: float) -> None:
        nn.utils.clip_grad_norm_(self.weights, limit)

    default_clip: ClassVar[float | None] = None

    # Steps

    def train_only(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Train only these parameters from now on: freeze the others and make a new optimizer."""
        if not parameters:
            raise InputError("no parameter is left to be trained", "let some weights require gradients")
        chosen = set(map(id, parameters.values()))
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        self.parameters = dict(parameters)
        self.weights = list(self.parameters.values())
        self.optimizer = make_optimizer(self.weights, *self._kind_and_rate(), self.settings)

    def _kind_and_rate(self) -> tuple[str, float]:
        kind = "sgd" if self.settings.optimizer == "auto" else self.settings.optimizer
        return kind, self.settings.learning_rate or (0.1 if kind == "sgd" else 1e-3)

    def one_step(self, rows: TaskRows) -> None:
        """Take one step of the run and call every hook in its place."""
        strategy = self.strategy
        for hook in strategy.before_step:
            hook(self, rows)
        loss = self.total_loss(rows)
        self.optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            loss = self.summed(loss)
            for hook in strategy.after_backward:
                hook(self, rows)
            self.clipped()
            self.optimizer.step()
        self.step += 1
        self.task_step += 1
        for hook in strategy.after_step:
            hook(self, rows)
        self.losses.append(loss.detach())

    def descend(self, loss: Tensor, parameters: Sequence[nn.Parameter] | None = None, rate: float = 0.0) -> None:
        """Take a plain gradient step on some parameters, beside the optimizer; the default rate is the run's."""
        chosen = list(self.weights if parameters is None else parameters)
        found = torch.autograd.grad(loss, chosen, allow_unused=True)
        moving = [(w, g) for w, g in zip(chosen, found, strict=True) if g is not None]
        with torch.no_grad():
            torch._foreach_add_(
                [w for w, _ in moving], [g for _, g in moving], alpha=-(rate or self._kind_and_rate()[1])
            )

    def check_losses(self) -> None:
        """Stop the run where a loss was not finite.

        Raises:
            TrainingError: names the step.
        """
        if not self.losses:
            return
        finite = torch.isfinite(torch.stack([loss.float().reshape(()) for loss in self.losses]))
        if not bool(finite.all()):
            bad = self.step - len(self.losses) + int((~finite).nonzero()[0]) + 1
            task = self.stream.tasks[self.task].name
            raise TrainingError(
                f"the loss is not finite at step {bad} (task {task})",
                "use a smaller learning rate or a weaker penalty, or clip the gradient",
            )

    # The model before the stream

    def remember_start(self) -> None:
        """Store the current weights for `reset`."""
        self.start = self.weights_to_keep()

    def start_hash(self) -> str:
        """Compute the hash of the weights from before the first task, of whole weights, in every process."""
        wholes = (self.whole(name, tensor) for name, tensor in self.start.items())
        digests = [hashlib.sha256(bytes_of(whole)).hexdigest() for whole in wholes if whole is not None]
        return self.workers.from_main(lambda: canonical_hash(digests))

    def reset(self) -> None:
        """Restore the weights from before the first task and make a new optimizer."""
        self.load_weights(self.start)
        self.optimizer = make_optimizer(self.weights, *self._kind_and_rate(), self.settings)

    def snapshot(self) -> dict[str, Tensor]:
        """Return a copy of the trained parameters by name, in the order of `weights`."""
        return {name: weight.detach().clone() for name, weight in self.parameters.items()}

    # Saving

    def result(self) -> Any:
        """Return the trained model: the user's, or the one that the strategy made."""
        return self.model

    def weights_to_keep(self) -> dict[str, Tensor]:
        """Return copies of the model's tensors for a checkpoint: parameters and buffers."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Restore what `weights_to_keep` returned."""
        self.model.load_state_dict(state)

    def save(self, folder: Path) -> None:
        """Write the weights as one safetensors file in a folder that appears whole or not at all."""
        with atomic_folder(folder) as temporary:
            save_file(self.weights_to_keep(), temporary / "model.safetensors")

    # Evaluation

    def evaluate(self, tasks: int, most: int | None = None) -> tuple[list[float], list[float]]:
        """Return accuracies and losses (nats) on the test rows of the first tasks.

        Args:
            tasks: the number of tasks.
            most: largest number of rows per task, the same rows at every call; None takes all.
        """
        raise NotImplementedError  # see ClassLearner and TextLearner
