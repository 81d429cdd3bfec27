"""`letheon.learn`: a model learns a stream with a strategy; every task is evaluated after every task.

The loop is one for modules and language models. Around a step it does nothing but call the hooks that the strategy
has: rows lie in one tensor and are gathered many batches at a time, losses are read at the end of a task, test rows of
all tasks go through the model together. What a run needs to go on lies in its checkpoints, random state included, so
that a killed run ends in the same bits.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from letheon.core.atomic import canonical_hash, check_writable, read_json, write_json
from letheon.core.errors import InputError, Interrupted, nearest
from letheon.core.hardware import keep_freed_memory
from letheon.core.model.models import LanguageModel, check_loadable, load
from letheon.core.progress import Advance, progress
from letheon.core.rows.sampling import stream_seed
from letheon.core.runs import Run
from letheon.core.training.checkpoints import checkpoints, tensors_of, write_checkpoint
from letheon.core.training.signals import Signals
from letheon.retain.classes import ClassLearner
from letheon.retain.descent import Descent
from letheon.retain.learner import Learner
from letheon.retain.metrics import Curve, summary
from letheon.retain.settings import LearnSettings
from letheon.retain.strategy import Composition, Strategy, as_strategy
from letheon.retain.stream import Stream, Task
from letheon.retain.streams import read_stream

if TYPE_CHECKING:
    from letheon.retain.texts import TextLearner


@dataclass
class Learned:
    """What learning a stream gives.

    Attributes:
        model: the model after, the same object that was given.
        stream, tasks, scenario: what was learned.
        strategy: as text.
        settings: how.
        curve: every evaluation.
        steps, seconds: how many, how long.
        folder: of the run; None where nothing was kept.
        learner: the learner as it ended, with the strategy's state; not kept in the folder.
    """

    model: Any
    stream: str
    tasks: list[str]
    scenario: str
    strategy: str
    settings: LearnSettings
    curve: Curve
    steps: int
    seconds: float
    folder: Path | None = None
    learner: Any = field(default=None, repr=False)

    @property
    def matrix(self) -> np.ndarray:
        """R [tasks + 1, tasks]: accuracy, row 0 before the first task, row i after task i."""
        return self.curve.matrix()

    @property
    def metrics(self) -> dict[str, float | None]:
        """Average accuracy, forgetting, transfer, worst cases; see `letheon.retain.metrics`."""
        return summary(self.curve)

    def to_json(self) -> dict[str, Any]:
        """The record that a run folder keeps."""
        named = ("stream", "tasks", "scenario", "strategy", "steps")
        return {
            **{name: getattr(self, name) for name in named},
            "settings": dataclasses.asdict(self.settings),
            "seconds": round(self.seconds, 3),
            "metrics": self.metrics,
            "curve": self.curve.to_json(),
        }


def learn(
    model: nn.Module | LanguageModel | str | Path,
    stream: Stream | str | Path,
    strategy: str | Strategy | Composition = "naive",
    *,
    out: str | Path | None = None,
    settings: LearnSettings | None = None,
    resume: bool = False,
    device: str = "auto",
    on_evaluation: Callable[[Learner], None] | None = None,
    **options: Any,
) -> Learned:
    """Learn a stream's tasks one after another; the model changes in place.

    >>> result = learn(model, split_digits(), "replay:capacity=200", epochs=3)      # doctest: +SKIP
    >>> result.matrix, result.metrics["forgetting"]                                 # doctest: +SKIP

    Args:
        model: an `nn.Module` that gives logits, a language model, or what `letheon.load` takes.
        stream: tasks, or what `read_stream` takes (`split-digits`, a TOML file).
        strategy: `NAME[:OPTION=VALUE,...]`, several joined by `+`; or a `Strategy`.
        out: the run's folder. Without it nothing is written.
        settings: all options; or give single ones by name (`epochs=3, evaluate_every=1`).
        resume: continue the run in `out`, from the same model and stream.
        device: of a language model that is loaded here.
        on_evaluation: called at every evaluation (before the first task, every `evaluate_every` steps, after a task),
            to measure what the stream does not test.

    Raises:
        InputError: before anything is trained or written, for what cannot work.
        TrainingError: a loss is not finite.
        Interrupted: stopped by a signal, resumable.
    """
    settings = resolved(settings, options)
    stream = stream if isinstance(stream, Stream) else read_stream(stream)
    composed = as_strategy(strategy)
    run = Run.open(Path(out)) if resume and out is not None else None
    if resume and run is None:
        raise InputError("there is no folder to resume from", "give out=")
    if out is not None and run is None:
        refuse_folder(Path(out))
    if isinstance(model, (str, Path)):
        check_loadable(model)
        model = load(model, device=device)
    keep_freed_memory()
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(settings.seed, "learn"))
        learner = make_learner(model, stream, composed, settings)
        composed.prepare(learner)
        config = _config(model, learner)
        if run is None and out is not None:
            run = Run.create(Path(out), config)
        elif run is not None:
            _check_same(run, config)
        if run is None:
            return _Loop(learner, None, on_evaluation).work(resume=False)
        with run.lock():
            run.tidy()
            return _Loop(learner, run, on_evaluation).work(resume=resume)


def make_learner(model: Any, stream: Stream, strategy: Composition, settings: LearnSettings) -> Learner:
    """The learner for a kind of model."""
    if isinstance(model, LanguageModel):
        from letheon.retain.texts import TextLearner

        learner: TextLearner | ClassLearner = TextLearner(model, stream, strategy, settings)
    elif isinstance(model, nn.Module):
        if stream.is_text:
            raise InputError(f"stream {stream.name} holds texts, the model is a module", "give a language model")
        learner = ClassLearner(model, stream, strategy, settings)
    else:
        raise InputError(f"a model of type {type(model).__name__}", "give an nn.Module or a language model")
    learner.remember_start()
    return learner


def resolved(settings: LearnSettings | None, options: dict[str, Any]) -> LearnSettings:
    """Settings with single options by name over them; an unknown name is refused."""
    known = [item.name for item in dataclasses.fields(LearnSettings)]
    strange = next((name for name in options if name not in known), None)
    if strange is not None:
        raise InputError(f"learn has no option {strange!r}", nearest(strange, known))
    return dataclasses.replace(settings or LearnSettings(), **options)


def refuse_folder(out: Path) -> None:
    """Refuse a place where no new run can be made."""
    check_writable(out)
    if (out / "config.json").exists():
        raise InputError(f"{out} already holds a run", f"continue it with --resume {out}, or choose another --out")


def _config(model: Any, learner: Learner) -> dict[str, Any]:
    stream = learner.stream
    return {
        "kind": "learn",
        "model": model.name if isinstance(model, LanguageModel) else type(model).__name__,
        "start": canonical_hash([_bits(tensor) for tensor in learner.start.values()]),
        "stream": {"name": stream.name, "source": stream.source, "rows": stream.fingerprint()},
        "strategy": learner.strategy.text,
        "settings": dataclasses.asdict(learner.settings),
    }


def _bits(tensor: Tensor) -> str:
    import hashlib

    return hashlib.sha256(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def _check_same(run: Run, config: dict[str, Any]) -> None:
    for name, remedy in {
        "start": "give back the model as it was before the run",
        "stream": "give back the same rows",
        "strategy": "resume with the same strategy",
        "settings": "resume with the same settings",
    }.items():
        if run.config.get(name) != config[name]:
            raise InputError(f"{run.folder} was started with another {name}", remedy)


class _Loop:
    """Tasks, epochs and steps; checkpoints, evaluations, interruption."""

    def __init__(
        self, learner: Learner, run: Run | None, on_evaluation: Callable[[Learner], None] | None = None
    ) -> None:
        self.learner, self.run, self.settings, self.on_evaluation = learner, run, learner.settings, on_evaluation
        self.curve = Curve(len(learner.stream))
        self.seconds = 0.0
        self.begun = False  # whether the task's first hook has been called
        self.signals: Signals | None = None
        self.advance: Advance = lambda *_: None

    def work(self, resume: bool) -> Learned:
        learner, self.kept = self.learner, time.monotonic()
        if not (resume and self._load()):
            self._evaluate(-1, len(learner.stream), None)
            learner.task = 0
        learner.model.train(learner.kind == "classes")
        with Signals() as self.signals, progress("learning", learner.total_steps) as self.advance:
            while learner.task < len(learner.stream):
                self._learn(learner.stream.tasks[learner.task])
        learner.model.eval()
        self.seconds += time.monotonic() - self.kept
        return self._learned()

    def _learned(self) -> Learned:
        learner = self.learner
        names = [task.name for task in learner.stream]
        stream = learner.stream
        result = Learned(
            learner.result(),
            stream.name,
            names,
            stream.scenario,
            learner.strategy.text,
            self.settings,
            self.curve,
            learner.step,
            self.seconds,
            self.run.folder if self.run else None,
            learner,
        )
        if self.run is not None:
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
        if self.run is not None:
            self._keep()

    def _batches(self, rows: Any, epochs: int) -> Iterator[Any]:
        """The batches that are left of the task; each epoch's order is asked for when it begins."""
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
            self.advance(learner.step, learner.stream.tasks[learner.task].name)
        if self.signals is not None and self.signals.came:
            self._interrupt()
        steps, seconds = self.settings.checkpoint_steps, self.settings.checkpoint_seconds
        due = (steps and learner.step % steps == 0) or (seconds and time.monotonic() - self.kept > seconds)
        if self.run is not None and due:
            self._keep()

    def _evaluate(self, task: int, tasks: int, most: int | None) -> None:
        accuracy, loss = self.learner.evaluate(tasks, most)
        self.curve.add(self.learner.step, task, accuracy, loss)
        if self.on_evaluation is not None:
            self.on_evaluation(self.learner)

    def _log_losses(self) -> None:
        learner = self.learner
        if self.run is not None and learner.losses:
            first = learner.step - len(learner.losses) + 1
            values = torch.stack([loss.float().reshape(()) for loss in learner.losses]).tolist()
            self.run.log(step=learner.step, task=learner.task, first=first, losses=[round(v, 6) for v in values])
        learner.losses.clear()

    # Checkpoints

    def _keep(self) -> None:
        learner = self.learner
        learner.check_losses()
        self._log_losses()
        tensors = {
            "weights": learner.weights_to_keep(),
            "optimizer": optimizer_state(learner),
            "state": {name: _own(t) for name, t in learner.strategy.state_dict().items()},
            "random": {"torch": torch.get_rng_state(), "strategy": learner.generator.get_state()},
        }
        if self.run is None:
            return
        self.seconds, self.kept = self.seconds + time.monotonic() - self.kept, time.monotonic()
        content = {
            "step": learner.step,
            "task": learner.task,
            "task_step": learner.task_step,
            "begun": self.begun,
            "seconds": self.seconds,
            "curve": self.curve.to_json(),
        }
        write_checkpoint(self.run, learner.step, tensors, content)

    def _load(self) -> bool:
        found = checkpoints(self.run) if self.run else []
        if not found or self.run is None:
            return False
        learner, folder = self.learner, found[-1]
        kept = read_json(folder / "step.json")
        learner.task, learner.step = kept["task"], kept["step"]
        learner.task_step, self.begun = kept["task_step"], kept["begun"]
        self.seconds, self.curve = kept["seconds"], Curve.from_json(kept["curve"])
        device = str(learner.device)
        learner.strategy.load_state_dict(learner, tensors_of(folder, "state", device))
        learner.load_weights(tensors_of(folder, "weights", device))
        load_optimizer_state(learner, tensors_of(folder, "optimizer", device))
        random = tensors_of(folder, "random")
        torch.set_rng_state(random["torch"])
        learner.generator.set_state(random["strategy"])
        self.run.keep_metrics(learner.step)
        return True

    def _interrupt(self) -> None:
        step, total = self.learner.step, self.learner.total_steps
        if self.run is None:
            raise Interrupted(f"learning was stopped at step {step}", "nothing was kept: run it again")
        self._keep()
        raise Interrupted(
            f"learning was stopped at step {step} of {total}; its state is kept",
            f"continue with --resume {self.run.folder}",
        )


def _own(tensor: Tensor) -> Tensor:
    """A tensor that shares its bytes with no other: two names for one tensor cannot be saved."""
    return tensor.detach().clone().contiguous()


def optimizer_state(learner: Learner) -> dict[str, Tensor]:
    """The optimizer's tensors by name."""
    optimizer = learner.optimizer
    if isinstance(optimizer, Descent):
        return {name: _own(tensor) for name, tensor in optimizer.state_dict().items()}
    return {
        f"{name}/{key}": _own(value)
        for name, parameter in learner.parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def load_optimizer_state(learner: Learner, state: dict[str, Tensor]) -> None:
    """Take them back."""
    optimizer = learner.optimizer
    if isinstance(optimizer, Descent):
        optimizer.load_state_dict(state)
        return
    for name, parameter in learner.parameters.items():
        mine = {key.removeprefix(f"{name}/"): t for key, t in state.items() if key.startswith(f"{name}/")}
        if mine:
            optimizer.state[parameter] = mine


def resume(folder: str | Path, model: Any = None, device: str = "auto") -> Learned:
    """Continue a killed or interrupted run from its folder: its stream must be readable again.

    Args:
        model: the module as it was before the run; a language model is loaded by its name.
    """
    run = Run.open(Path(folder))
    config = run.config
    if config.get("kind") != "learn":
        raise InputError(f"{folder} is no run of `letheon learn`", "see `letheon forget --resume`")
    source = config["stream"]["source"]
    if not source:
        raise InputError(f"{folder} was started from Python", "call learn(model, stream, ..., out=, resume=True)")
    settings = LearnSettings(**config["settings"])
    start = model if model is not None else config["model"]
    return learn(start, source, config["strategy"], out=folder, settings=settings, resume=True, device=device)
