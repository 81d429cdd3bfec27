"""The one training loop, on accelerate: steps, checkpoints, resume, interruption, several processes, progress.

The caller computes a step; the loop does everything around it. Each step seeds its own random stream (root seed and
step number), so a resumed run needs no random state and gives the same bits. A step's gradients are sums over the
effective batch, so splitting it into micro-batches and processes does not change them. Models stay in evaluation mode,
so dropout is off. The loop itself sums gradients over processes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from letheon.core.atomic import read_json
from letheon.core.errors import InputError, Interrupted, TrainingError
from letheon.core.hardware import keep_freed_memory, resolve_precision
from letheon.core.model.models import LanguageModel
from letheon.core.model.passes import recomputed
from letheon.core.progress import progress
from letheon.core.rows.sampling import stream_seed
from letheon.core.runs import Run
from letheon.core.training.checkpoints import checkpoints, tensors_of, write_checkpoint
from letheon.core.training.optimizers import make_optimizer
from letheon.core.training.settings import TrainSettings
from letheon.core.training.sharding import Whole, from_main
from letheon.core.training.signals import Signals

logger = logging.getLogger("letheon")


class Stateful(Protocol):
    """An object whose tensors are saved in checkpoints (a gradient history, a mask)."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


@dataclass
class TrainingOutcome:
    """Result of a loop: steps taken, the reason it ended, metrics per step, wall-clock seconds."""

    steps: int
    stopped: str = "all steps done"
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


class Loop:
    """One training run over named parameters.

    Args:
        parameters: name -> parameter; all others are frozen until the run ends or `release` is called.
        run: folder of checkpoints and metrics; None writes nothing.
        state: further tensors to save in checkpoints.
        place: decides where the weights lie while the loop runs: `Whole` in every process, or in `Shards`.
    """

    def __init__(
        self,
        model: LanguageModel,
        parameters: Mapping[str, nn.Parameter],
        settings: TrainSettings,
        total: int,
        *,
        run: Run | None = None,
        state: Stateful | None = None,
        title: str = "training",
        place: Callable[[LanguageModel, Mapping[str, nn.Parameter]], Whole] = Whole,
    ) -> None:
        from accelerate import Accelerator

        if not parameters:
            raise InputError("no parameter is selected to be trained", "choose another scope")
        keep_freed_memory()
        self.model, self.settings, self.total = model, settings, total
        self.run_folder, self.state, self.title = run, state, title
        self._before = {name: parameter.requires_grad for name, parameter in model.model.named_parameters()}
        chosen = set(map(id, parameters.values()))
        for parameter in model.model.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        self.sharding = place(model, parameters)
        self.parameters = self.sharding.parameters
        self.accelerator = Accelerator(cpu=model.device.type == "cpu")
        self.precision = resolve_precision(settings.precision, model.device)
        self.optimizer = make_optimizer(self.parameters.values(), settings)
        self.step = 0
        self.history: list[dict[str, float]] = []

    def release(self, gather: bool = False) -> None:
        """Restore every parameter's `requires_grad`, delete the gradients, and put the model's modules back.

        Args:
            gather: whether to put sharded weights together, for which every process must call this.
        """
        self.sharding.end(gather)
        for name, parameter in self.model.model.named_parameters():
            parameter.requires_grad_(self._before.get(name, False))
            parameter.grad = None

    # Methods for use inside a step

    def shard(self, micro_batches: Sequence[Any]) -> list[Any]:
        """Select the micro-batches of this process."""
        return list(micro_batches[self.accelerator.process_index :: self.accelerator.num_processes])

    def sum_gradients(self) -> None:
        """Sum the gradients over processes; a missing gradient counts as zero."""
        self.sharding.collect()

    def take_gradients(self) -> list[Tensor]:
        """Return and clear the summed gradients, in the order of `parameters` (zero for a missing gradient)."""
        self.sum_gradients()
        taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters.values()]
        for parameter in self.parameters.values():
            parameter.grad = None
        return taken

    def clip(self) -> float:
        """Clip the gradient's norm if the settings ask for it; return the norm before clipping.

        Raises:
            TrainingError: the norm is not finite; no weight has changed.
        """
        limit = math.inf if self.settings.clip is None else self.settings.clip
        norm = self.sharding.clip(limit)
        self._refuse_not_finite({"the gradient's norm": norm})
        return norm

    def reduce_metrics(self, metrics: dict[str, float]) -> dict[str, float]:
        """Sum metrics over processes and check that they are finite.

        Every process gets the same values, so all processes stop together.

        Raises:
            TrainingError: a metric is not finite; no weight has changed in this step.
        """
        if self.accelerator.num_processes > 1:
            shares: list[dict[str, float]] = [{} for _ in range(self.accelerator.num_processes)]
            torch.distributed.all_gather_object(shares, metrics)
            names = sorted({name for share in shares for name in share})
            metrics = {name: sum(share.get(name, 0.0) for share in shares) for name in names}
        self._refuse_not_finite(metrics)
        return metrics

    def _refuse_not_finite(self, metrics: Mapping[str, float]) -> None:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(f"{', '.join(bad)} is not finite at step {self.step}", "")

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute matrix products in the resolved precision while the block runs."""
        enabled = self.precision == "bfloat16"
        # a cache would keep every block's cast weights after its shards are freed
        cache = not self.model.sharded
        with torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=cache):
            yield

    # The loop

    def run(
        self,
        step: Callable[[int], Mapping[str, float]],
        stop: Callable[[Sequence[Mapping[str, float]]], str | None] | None = None,
        describe: Callable[[Mapping[str, float]], str] | None = None,
    ) -> TrainingOutcome:
        """Run the remaining steps.

        Args:
            step: computes step k (gradients and `optimizer.step()`) and returns its metrics.
            stop: takes the metrics of all steps (also those before a restart); returns a reason to stop, or None.
            describe: formats a step's metrics for the progress bar.

        Raises:
            TrainingError: a metric is not finite; the last checkpoint stays.
            Interrupted: a signal arrived; a checkpoint was saved.
        """
        reason: str | None = None
        outcome, started, kept = TrainingOutcome(self.step, history=self.history), time.monotonic(), time.monotonic()
        try:
            with Signals() as signals, progress(self.title, self.total) as advance:
                while self.step < self.total and not reason:
                    metrics = self._one(step)
                    self.history.append(metrics)
                    advance(self.step, describe(metrics) if describe else f"loss {metrics.get('loss', 0):.3f}")
                    reason = stop(self.history) if stop else None
                    asked, keep, reason = self._agreed(signals.came, self._keep_now(kept), reason)
                    outcome.stopped = reason or outcome.stopped
                    self._log(metrics, outcome.stopped if reason or self.step == self.total else None)
                    if asked and not reason and self.step < self.total:
                        self._interrupt()
                    if keep and self.step < self.total and not reason:
                        self.save_checkpoint()
                        kept = time.monotonic()
        except BaseException:
            self.release()
            raise
        self.release(gather=True)
        outcome.steps, outcome.seconds = self.step, time.monotonic() - started
        return outcome

    def _one(self, step: Callable[[int], Mapping[str, float]]) -> dict[str, float]:
        torch.manual_seed(stream_seed(self.settings.seed, "step", self.step))
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self._rate(self.step)
        with self._checkpointing():
            metrics = dict(step(self.step))
        self.step += 1
        self.optimizer.zero_grad(set_to_none=True)
        return metrics

    def _log(self, metrics: Mapping[str, float], stopped: str | None) -> None:
        """Write a step's line, the last one with the reason for the end."""
        if self.run_folder is not None and self.accelerator.is_main_process:
            self.run_folder.log(step=self.step, **metrics, **{"stopped": stopped} if stopped else {})

    @contextmanager
    def _checkpointing(self) -> Iterator[None]:
        """Run blocks again in the backward pass instead of keeping their activations, if the settings ask for it."""
        if not self.settings.gradient_checkpointing:
            yield
            return
        self.model.recomputes = True
        try:
            with recomputed(self.model.base()):
                yield
        finally:
            self.model.recomputes = False

    def _rate(self, step: int) -> float:
        if step < self.settings.warmup_steps:
            return (step + 1) / self.settings.warmup_steps
        if self.settings.schedule == "constant":
            return 1.0
        return max(0.0, (self.total - step) / max(1, self.total - self.settings.warmup_steps))

    # Checkpoints

    def _keep_now(self, last: float) -> bool:
        every, seconds = self.settings.checkpoint_steps, self.settings.checkpoint_seconds
        return bool((every and self.step % every == 0) or (seconds and time.monotonic() - last > seconds))

    def save_checkpoint(self) -> None:
        """Write a checkpoint atomically: trained weights, optimizer, further state. The last two stay on disk.

        Only the main process writes. Weights that are not finite are not saved; the earlier checkpoint stays.
        """
        if self.run_folder is None or not self.finite():
            return
        whole, names = self.sharding.whole, list(self.parameters)
        tensors = {
            "weights": {name: whole(name, parameter) for name, parameter in self.parameters.items()},
            "optimizer": {f"{name}/{key}": whole(name, value) for name, key, value in self._moments()},
        }
        if self.state is not None:
            state = self.state.state_dict()
            tensors["state"] = {key: whole(_parameter_of(key, names), tensor) for key, tensor in state.items()}
        if not self.accelerator.is_main_process:
            return
        groups = {group: {n: t for n, t in found.items() if t is not None} for group, found in tensors.items()}
        write_checkpoint(self.run_folder, self.step, groups, {"step": self.step, "history": self.history})

    def finite(self) -> bool:
        """Return whether all trained weights are finite, in all shards."""
        here = all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters.values())
        return self.sharding.largest(float(not here)) == 0

    def _moments(self) -> Iterator[tuple[str, str, Tensor]]:
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                if value is not None:  # SGD names a momentum that it does not have
                    yield name, key, value

    def resume(self) -> bool:
        """Load the newest complete checkpoint; return whether there is one."""
        folder, part = self._newest(), self.sharding.part
        if folder is None:
            self._drop_lines()
            return False
        weights, moments = tensors_of(folder, "weights"), tensors_of(folder, "optimizer")
        if set(weights) != set(self.parameters):
            raise InputError(f"{folder} holds other parameters than this run trains", "resume with the same scope")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(part(name, weights[name]))
                own = {key.removeprefix(f"{name}/"): t for key, t in moments.items() if key.startswith(f"{name}/")}
                if own:
                    own = {key: part(name, tensor).to(parameter.device, copy=True) for key, tensor in own.items()}
                    self.optimizer.state[parameter] = own
        if self.state is not None:
            state, names = tensors_of(folder, "state", device=str(self.model.device)), list(self.parameters)
            self.state.load_state_dict({key: part(_parameter_of(key, names), t).clone() for key, t in state.items()})
        kept = read_json(folder / "step.json")
        self.step, self.history = kept["step"], kept["history"]
        self._drop_lines()
        return True

    def _drop_lines(self) -> None:
        """Drop the lines of the steps that are taken again."""
        if self.run_folder is not None and self.accelerator.is_main_process:
            self.run_folder.keep_metrics(self.step)

    def _newest(self) -> Path | None:
        """Return the newest complete checkpoint that the main process sees, which has tidied the folder."""
        newest = next(reversed(checkpoints(self.run_folder)), None) if self.run_folder else None
        return newest if self.accelerator.num_processes == 1 else from_main(lambda: newest)

    # Interruption

    def _agreed(self, asked: bool, keep: bool, reason: str | None) -> tuple[bool, bool, str | None]:
        """Agree over processes, because all of them must do the same after a step.

        They stop if a signal came in any of them, keep the state if the main one says so, and end for the reason of the
        first process that has one.
        """
        if self.accelerator.num_processes == 1:
            return asked, keep, reason
        here = [float(asked), float(keep and self.accelerator.is_main_process), float(bool(reason))]
        flags = torch.tensor(here, device=self.model.device)
        torch.distributed.all_reduce(flags)
        if flags[2]:
            reasons: list[str | None] = [None] * self.accelerator.num_processes
            torch.distributed.all_gather_object(reasons, reason)
            reason = next(one for one in reasons if one)
        return bool(flags[0]), bool(flags[1]), reason

    def _interrupt(self) -> None:
        if self.run_folder is None:
            raise Interrupted(f"{self.title} was stopped at step {self.step}", "nothing was kept: run it again")
        self.save_checkpoint()
        raise Interrupted(
            f"{self.title} was stopped at step {self.step} of {self.total}; its state is kept",
            f"continue with --resume {self.run_folder.folder}",
        )


def _parameter_of(key: str, names: Sequence[str]) -> str:
    """Name the parameter that a tensor of a state belongs to, if its key ends in the parameter's number."""
    number = key.rpartition("/")[2]
    return names[int(number)] if number.isdecimal() and int(number) < len(names) else key
