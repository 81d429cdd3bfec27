"""FPF and k-FPF: only the parameters that forget are finetuned on a few old rows, at the end or k times on the way.

Paper:   Does Continual Learning Equally Forget All Parameters?, arXiv 2304.04158; no code is public. Rates, steps and
         the weight of the distillation are not known; ours are those of the reproduction on digits.
Differs: gradients are computed for the chosen parameters alone, without freezing the others or changing the
         optimizer's state. Beside a strategy with a replay memory (written to its left) that memory is used.
         Language models [our extension]: `norm` are the blocks' normalisation weights, `head` the vocabulary matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from letheon.core.errors import InputError
from letheon.core.registry import check_settings, method
from letheon.retain.dynamics import movement, roles, selected, sensitivity, state_of
from letheon.retain.learner import Learner
from letheon.retain.memory import Memory, Policy
from letheon.retain.rows import TaskRows
from letheon.retain.strategies.der import DER, der_loss
from letheon.retain.strategies.replay import Replaying
from letheon.retain.strategy import Strategy
from letheon.retain.stream import Task

DEFAULT = "head/norm"


@dataclass(frozen=True)
class Settings:
    select: str = DEFAULT  # roles or names of modules, separated by /; auto: by sensitivity; all: everything
    k: int = 0  # 0: once, after the last task (FPF); else times along the stream, the last at its end (k-FPF)
    steps: int = 100  # steps per finetuning; reproduction on digits
    rate: float = 0.03  # reproduction on digits
    batch: int = 32  # reproduction on digits
    loss: Literal["ce", "kd"] = "ce"  # kd also distils the logits that a row had when it arrived
    distillation: float = 0.1  # λ of kd; 0.1 to 0.5 in DER++
    budget: float = 0.1  # share of all parameters that auto chooses at most [inferred]
    capacity: int = 200  # rows of its own memory
    policy: Policy = "reservoir"

    def __post_init__(self) -> None:
        check_settings(self, positive=("steps", "rate", "batch", "distillation", "budget", "capacity"))
        if self.k < 0:
            raise InputError(f"k: found {self.k}", "give 0 for once at the end, or how often")


def due(step: int, total: int, k: int) -> bool:
    """Return whether a step is one of k - 1 triggers, every ⌊K/k⌋ steps; the k-th trigger is the end of the stream."""
    every = total // k if k else 0
    return bool(every) and step % every == 0 and 0 < step // every < k


@method("strategy", "fpf", Settings, paper="2304.04158", tiny={"steps": 20})
class FPF(Strategy):
    """Finetuning of the parameters that forget.

    Attributes:
        replayed: rows drawn from the memory so far.
    """

    keeps: ClassVar[tuple[str, ...]] = ("own", "before", "moved", "replayed")
    own: Memory | None
    before: dict[str, Tensor]  # the weights at the end of the last task, for `auto`
    moved: dict[str, float]  # distance of each module from task to task, summed

    def prepare(self, learner: Learner) -> None:
        settings = self.settings
        self.shared: Replaying | None = learner.strategy.find(Replaying)
        self.own = None if self.shared is not None else learner.memory(settings.capacity, settings.policy)
        self.before, self.moved, self.replayed = {}, {}, 0
        self.stored: dict[str, Tensor] = {}
        if settings.k > learner.total_steps:
            raise InputError(
                f"fpf: k={settings.k} for a stream of {learner.total_steps} steps", "use a smaller k, or more epochs"
            )
        if settings.loss == "kd":
            self._check_logits(learner)
        self.chosen(learner)

    def _check_logits(self, learner: Learner) -> None:
        if learner.kind == "texts":
            raise InputError("fpf: loss=kd would keep logits over a vocabulary", "use loss=ce with language models")
        if self.shared is not None and not isinstance(self.shared, DER):
            raise InputError("fpf: loss=kd beside a memory without logits", "compose it with der, or use it alone")

    @property
    def memory(self) -> Memory:
        """The memory with the old rows."""
        return self.own if self.shared is None else self.shared.memory  # type: ignore[return-value]  # one of them is

    def chosen(self, learner: Learner) -> list[nn.Parameter]:
        """Return the parameters to finetune; `auto` takes the default until two tasks are learned.

        Raises:
            InputError: no trained parameter has such a role or name.
        """
        wanted = self.settings.select
        if wanted == "auto" and self.moved:
            sizes = {name: parameter.numel() for name, parameter in learner.parameters.items()}
            names = selected(sensitivity(self.moved), sizes, self.settings.budget)
            return [learner.parameters[name] for name in names]
        parts = (DEFAULT if wanted == "auto" else wanted).split("/")
        known = roles(learner.model)
        found = [
            parameter
            for name, parameter in learner.parameters.items()
            if any(part in ("all", known[name], name) or name.startswith(f"{part}.") for part in parts)
        ]
        if not found:
            trained = sorted({known[name] for name in learner.parameters})
            raise InputError(
                f"fpf: no parameter that is trained is of {wanted!r}",
                f"choose of {', '.join(trained)}, a module's name, auto or all; an adapter has none of head and norm",
            )
        return found

    def extra(self, learner: Learner, rows: TaskRows, outputs: Any) -> None:
        if self.settings.loss == "kd":
            self.stored = {"logits": outputs.detach()}

    def after_step(self, learner: Learner, rows: TaskRows) -> None:
        if self.own is not None and learner.epoch == 0:  # later epochs show the same rows again
            self.own.add(rows, **self.stored)
        if due(learner.step, learner.total_steps, self.settings.k):
            self.finetune(learner)

    def after_task(self, learner: Learner, task: Task) -> None:
        if self.settings.select == "auto":
            now = state_of(learner.model)
            if self.before:
                for name, distance in movement(now, self.before).items():
                    self.moved[name] = self.moved.get(name, 0.0) + distance
            self.before = now
        if learner.task == len(learner.stream) - 1:
            self.finetune(learner)

    def finetune(self, learner: Learner) -> None:
        """Take steps of plain descent on the chosen parameters, in training mode, so that running statistics adapt."""
        parameters, settings = self.chosen(learner), self.settings
        for _ in range(settings.steps):
            rows = self.memory.sample(settings.batch)
            if rows is None:
                return
            outputs = learner.outputs(rows)
            loss = learner.loss(outputs, rows)
            if settings.loss == "kd":
                loss = loss + settings.distillation * der_loss(outputs, rows.kept["logits"])
            learner.descend(loss, parameters, settings.rate)
            self.replayed += len(rows)
