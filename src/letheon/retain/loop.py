"""The training loop over a stream's tasks, for modules and language models alike.

Between the steps the loop only calls the hooks that the strategies have: rows are gathered many batches at a time,
losses are read at the end of a task, and the test rows of all tasks go through the model together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from letheon.core.atomic import read_json, write_json
from letheon.core.errors import Interrupted
from letheon.core.processes import is_main_process
from letheon.core.progress import Advance, progress
from letheon.core.runs import Run
from letheon.core.training.checkpoints import checkpoints, tensors_of, write_checkpoint
from letheon.core.training.signals import Signals
from letheon.retain.descent import load_optimizer_state, optimizer_state
from letheon.retain.learned import Learned
from letheon.retain.learner import Learner
from letheon.retain.metrics import Curve
from letheon.retain.rows import TaskRows
from letheon.retain.stream import Task


class Loop:
    """One run: tasks, epochs and steps, with evaluations, checkpoints and interruption.

    Args:
        learner: the model in its first state, with prepared strategies.
        run: the folder for checkpoints and results; None writes nothing.
        on_evaluation: called with the learner at every evaluation.
    """

    def __init__(
        self, learner: Learner, run: Run | None, on_evaluation: Callable[[Learner], None] | None = None
    ) -> None:
        self.learner, self.run, self.settings, self.on_evaluation = learner, run, learner.settings, on_evaluation
        self.clock = time.monotonic()  # when `seconds` was last brought up to date
        self.curve = Curve(len(learner.stream))
        self.seconds = 0.0
        self.begun = False  # whether the task's first hook has been called
        self.signals: Signals | None = None
        self.advance: Advance = lambda *_: None

    def work(self, resume: bool) -> Learned:
        """Learn all tasks, from the last checkpoint where `resume` is set."""
        learner, self.clock = self.learner, time.monotonic()
        if not (resume and self._load_checkpoint()):
            self._evaluate(-1, len(learner.stream), None)
            learner.task = 0
        learner.model.train(learner.kind == "classes")
        with Signals() as self.signals, progress("learning", learner.total_steps) as self.advance:
            while learner.task < len(learner.stream):
                self._learn(learner.stream.tasks[learner.task])
        learner.release(gather=True)
        learner.model.eval()
        self.seconds += time.monotonic() - self.clock
        return self._learned()

    def _learned(self) -> Learned:
        learner, stream = self.learner, self.learner.stream
        result = Learned(
            model=learner.result(),
            stream=stream.name,
            tasks=[task.name for task in stream],
            scenario=stream.scenario,
            strategy=learner.strategy.text,
            settings=self.settings,
            curve=self.curve,
            steps=learner.step,
            seconds=self.seconds,
            folder=self.run.folder if self.run else None,
            learner=learner,
        )
        if self.run is not None and is_main_process():
            learner.save(self.run.folder / "model")
            write_json(self.run.folder / "learned.json", result.to_json())
        return result

    def _learn(self, task: Task) -> None:
        learner, strategy = self.learner, self.learner.strategy
        if not self.begun:
            learner.task_step = 0
            for hook in strategy.before_task:
                hook(learner, task)
            self.begun = True
        rows = strategy.rows(learner, task)
        epochs = strategy.epochs(learner, task) if len(rows) else 0
        for batch in self._batches(rows, epochs):
            learner.one_step(batch)
            self._between_steps()
        learner.check_losses()
        for hook in strategy.after_task:
            hook(learner, task)
        self._log_losses()
        self.curve.ends.append(learner.step)
        self._evaluate(learner.task, len(learner.stream), None)
        learner.task, learner.task_step, self.begun = learner.task + 1, 0, False
        self._save_checkpoint()

    def _batches(self, rows: TaskRows, epochs: int) -> Iterator[TaskRows]:
        """The remaining batches of the task; the strategy gives each epoch's order when that epoch begins."""
        learner, size = self.learner, self.settings.batch_size
        left = learner.task_step
        learner.task_steps = epochs * -(-len(rows) // size)
        for epoch in range(epochs):
            learner.epoch = epoch
            order = learner.strategy.order(learner, rows, epoch)
            count = -(-len(order) // size)
            if left >= count:
                left -= count
                continue
            yield from rows.batches(order.to(rows.inputs.device), size, left)
            left = 0

    def _between_steps(self) -> None:
        learner, every = self.learner, self.settings.evaluate_every
        if every and learner.step % every == 0:
            self._evaluate(learner.task, learner.task + 1, self.settings.evaluate_rows)
        if learner.step % 64 == 0 or learner.kind == "texts":
            self.advance(learner.step, learner.stream.tasks[learner.task].name, learner.planned_steps())
        if self.signals is not None and learner.any_process(self.signals.came):
            self._interrupt()
        steps, seconds = self.settings.checkpoint_steps, self.settings.checkpoint_seconds
        due = (steps and learner.step % steps == 0) or (seconds and time.monotonic() - self.clock > seconds)
        if learner.sharded:  # then all take part in a checkpoint, and clocks differ
            due = learner.any_process(bool(due) and is_main_process())
        if due:
            self._save_checkpoint()

    def _evaluate(self, task: int, tasks: int, most: int | None) -> None:
        accuracy, loss = self.learner.evaluate(tasks, most)
        self.curve.add(self.learner.step, task, accuracy, loss)
        if self.on_evaluation is not None:
            self.on_evaluation(self.learner)

    def _log_losses(self) -> None:
        learner = self.learner
        if self.run is not None and learner.losses and is_main_process():
            first = learner.step - len(learner.losses) + 1
            values = torch.stack([loss.float().reshape(()) for loss in learner.losses]).tolist()
            self.run.log(step=learner.step, task=learner.task, first=first, losses=[round(v, 6) for v in values])
        learner.losses.clear()

    # Checkpoints

    def _save_checkpoint(self) -> None:
        learner = self.learner
        if self.run is None or not (is_main_process() or learner.sharded):
            return
        learner.check_losses()
        self._log_losses()
        tensors = self._whole_tensors()
        if not is_main_process():
            return
        tensors["random"] = {"torch": torch.get_rng_state(), "strategy": learner.generator.get_state()}
        self.seconds, self.clock = self.seconds + time.monotonic() - self.clock, time.monotonic()
        content = {
            "step": learner.step,
            "task": learner.task,
            "task_step": learner.task_step,
            "begun": self.begun,
            "seconds": self.seconds,
            "curve": self.curve.to_json(),
        }
        write_checkpoint(self.run, learner.step, tensors, content)

    def _whole_tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return copies of the tensors of a checkpoint by group; in shards every process calls this, and 0 gets them.

        No two share memory: safetensors refuses two names for one tensor.
        """
        learner = self.learner
        groups: dict[str, Mapping[str, Tensor]] = {
            "optimizer": optimizer_state(learner.optimizer, learner.parameters),
            "state": learner.strategy.state_dict(),
        }
        found: dict[str, dict[str, Tensor]] = {}
        if learner.sharded:
            groups["weights"] = learner.parameters
        else:
            found["weights"] = learner.weights_to_keep()
        for group, tensors in groups.items():
            wholes = {key: learner.whole(self._weight_of(group, key), tensor) for key, tensor in tensors.items()}
            found[group] = {key: whole for key, whole in wholes.items() if whole is not None}
        return found

    def _weight_of(self, group: str, key: str) -> str | None:
        """Name the weight that a tensor of a checkpoint belongs to, if any."""
        names = list(self.learner.parameters)
        if group == "state":
            return self.learner.strategy.weight_of(key, names)
        name = key.rpartition("/")[0] if group == "optimizer" else key
        return name or names[int(key)]

    def _parts(self, folder: Path, group: str) -> dict[str, Tensor]:
        """Read this process's part of a checkpoint's tensors."""
        learner = self.learner
        tensors = tensors_of(folder, group, "cpu" if learner.sharded else str(learner.device))
        return {key: learner.part(self._weight_of(group, key), tensor) for key, tensor in tensors.items()}

    def _load_checkpoint(self) -> bool:
        """Restore the last checkpoint; False where there is none."""
        whole = self.learner.workers.from_main(lambda: checkpoints(self.run) if self.run else [])
        if not whole or self.run is None:
            return False
        learner, folder = self.learner, whole[-1]
        saved = read_json(folder / "step.json")
        learner.task, learner.step = saved["task"], saved["step"]
        learner.task_step, self.begun = saved["task_step"], saved["begun"]
        self.seconds, self.curve = saved["seconds"], Curve.from_json(saved["curve"])
        learner.strategy.load_state_dict(learner, self._parts(folder, "state"))
        learner.load_weights(self._parts(folder, "weights"))
        load_optimizer_state(learner.optimizer, learner.parameters, self._parts(folder, "optimizer"))
        random = tensors_of(folder, "random")
        torch.set_rng_state(random["torch"])
        learner.generator.set_state(random["strategy"])
        if is_main_process():
            self.run.keep_metrics(learner.step)
        return True

    def _interrupt(self) -> None:
        step, total = self.learner.step, self.learner.total_steps
        if self.run is None:
            raise Interrupted(f"learning was stopped at step {step}", "nothing was kept: run it again")
        self._save_checkpoint()
        raise Interrupted(
            f"learning was stopped at step {step} of {total}; its state is kept",
            f"continue with --resume {self.run.folder}",
        )
