"""Memory aware synapses (MAS): a penalty holds each weight by how much it moves the model's outputs; no label enters.

Paper:   Aljundi et al., Memory Aware Synapses, arXiv 1711.09601, Eqs. 2-5, global form.
Differs: the absolute value is taken of each row's gradient, as in the equations; batches of one row give the same in
         the authors' code. In task-incremental streams the outputs are those of the row's own task. Texts: the logits
         of answer tokens, and the mean of their squared norms. The penalty's gradient is added after the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from letheon.core.registry import Checked, method
from letheon.retain.learner import Learner
from letheon.retain.penalty import Anchored
from letheon.retain.row_gradients import output_sensitivity
from letheon.retain.stream import Task


@dataclass(frozen=True)
class Settings(Checked, positive=("strength",), not_negative=("samples",)):
    strength: float = 1.0  # λ of λ Σ Ω (θ - θ*)²; 1 in the authors' code. It is not the scale of `ewc`
    samples: int = 256  # rows for the estimate; 0 takes all


@method("strategy", "mas", Settings, paper="1711.09601")
class MAS(Anchored):
    @property
    def strength(self) -> float:
        """2 λ: the paper's penalty has no factor of a half."""
        return 2.0 * float(self.settings.strength)

    def after_task(self, learner: Learner, task: Task) -> None:
        """Add up the importances of all tasks; the anchor is the last task's end."""
        found = output_sensitivity(learner, self.estimated_on(learner, task))
        before = self.importance
        self.importance = found if before is None else [a + b for a, b in zip(before, found, strict=True)]
        self.anchor = list(learner.snapshot().values())
