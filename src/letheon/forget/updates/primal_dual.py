"""Primal-dual: descend the forget loss under a bound on the retain loss, whose weight is the Lagrange multiplier.

Paper:   Entesari et al., Constrained Entropic Unlearning, arXiv 2506.05314 (PDU), and the authors' code in
         open-unlearning: minimise L_f subject to L_r ≤ ε. Every step

             θ descends L_f + λ (L_r − ε);      λ <- max(0, λ + η (L_r − ε)), with L_r from before the step.

         So λ, the weight of the retain loss, rises while the bound is broken and falls while there is room.
Values:  `pdu` has those of the authors' runs on TOFU: λ starts at 100, since the squared margins of logits are large,
         η = 5, and λ rests for the first half of the steps (5 of 10 epochs, or more for larger models; on MUSE 3 of 10,
         with λ from 50 and η = 1).
Differs: any objective is under the constraint, which is put on the retain loss as it is logged. λ moves once per step,
         by the loss over the effective batch; the authors' moves once per micro-batch, in each process for itself.
         Their option to move it per epoch, by a pass over all rows, is left out; they count its rest in epochs. They
         set ε by hand, "appropriately larger" than the retain loss before; here that is `slack` above it, unless
         `epsilon` is given. The term −λε, which has no gradient, is left out of the logged loss. A scope's penalty and
         the forget answers' tokens that carry no fact are not under the constraint. λ is `dual` in the metrics, and a
         resumed run takes it from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from letheon.core.errors import InputError
from letheon.core.registry import Checked, method
from letheon.core.rows.sampling import spread
from letheon.forget.objectives.likelihood import LikelihoodObjective
from letheon.forget.parts import Objective, Pair, Rows, Scope, Update
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request
from letheon.forget.separate_gradients import accumulate

if TYPE_CHECKING:
    from letheon.core.training.loop import Loop

# Retain rows by which the retain loss before the first step is measured, at most.
MEASURED = 64


@dataclass(frozen=True)
class Settings(Checked, not_negative=("dual", "rate", "slack"), shares=("rest",)):
    """Options of the update.

    Attributes:
        dual: λ at the first step.
        rate: η, the step of λ per unit of the retain loss above its bound.
        epsilon: ε, the bound on the retain loss; none takes `slack` above the loss before the first step.
        slack: how much the retain loss may rise, in its own unit (nats per token of a likelihood).
        rest: share of the steps in which λ does not move yet.
    """

    dual: float = 1.0
    rate: float = 1.0
    epsilon: float | None = None
    slack: float = 0.2
    rest: float = 0.5


def dual_ascent(dual: float, retain_loss: float, epsilon: float, rate: float) -> float:
    """max(0, λ + η (L_r − ε))."""
    return max(0.0, dual + rate * (retain_loss - epsilon))


@method(
    "update",
    "primal_dual",
    Settings,
    paper="2506.05314",
    needs={"retain"},
    recipes={"pdu": "logit_margin+primal_dual:dual=100,rate=5"},
    recommended={"epochs": 10, "learning_rate": 1e-5, "weight_decay": 0.01, "batch_size": 32},
    tiny=({"rest": 0}, {"rest": 0, "epsilon": 1}),
)
class PrimalDual(Update):
    settings: Settings

    @staticmethod
    def check_recipe(recipe: Recipe, request: Request | None) -> None:
        """Refuse an objective that weighs its retain term itself, or whose retain loss before is not known."""
        name, settings = recipe.objective.method.name, recipe.update.settings
        if recipe.option("alpha") not in (None, 1):
            raise InputError(
                f"primal_dual weighs the retain loss, and {name} has alpha={recipe.option('alpha')}",
                f"write {name}:alpha=1, and primal_dual:dual=... for the first weight",
            )
        if settings.epsilon is None and recipe.option("retain_loss") is None:
            raise InputError(
                f"primal_dual does not know the retain loss of {name} before the first step",
                "give its bound: primal_dual:epsilon=...",
            )

    def prepare(self, loop: Loop, objective: Objective, rows: Rows, scope: Scope) -> None:
        """Set ε; the retain loss before is the rows' negative log-likelihood, or a divergence of 0."""
        given = self.settings.epsilon
        likelihood = given is None and objective.settings.retain_loss == "nll"
        before = retain_nll(loop, rows) if likelihood else 0.0
        self.epsilon = before + self.settings.slack if given is None else given

    def step(self, loop: Loop, objective: Objective, pairs: Sequence[Pair]) -> dict[str, float]:
        dual = loop.history[-1]["dual"] if loop.history else self.settings.dual
        metrics = accumulate(loop, objective, pairs, retain_weight=dual)
        metrics["gradient_norm"] = loop.clip()
        loop.optimizer.step()
        if loop.step >= self.settings.rest * loop.total and "retain_loss" in metrics:
            dual = dual_ascent(dual, metrics["retain_loss"], self.epsilon, self.settings.rate)
        return {**metrics, "dual": dual, "bound": self.epsilon}


def retain_nll(loop: Loop, rows: Rows) -> float:
    """Mean negative log-likelihood of at most 64 retain rows' answers, in nats per token."""
    chosen = spread(range(len(rows.retain)), MEASURED)
    answers = [rows.retain[i] for i in chosen]
    with loop.autocast():
        numbers = [len(rows.forget) + i for i in chosen]
        logp = LikelihoodObjective().sequence_logps(loop.model, rows, answers, numbers)
    return -float(logp.sum()) / sum(len(row.ids) - max(row.start, 1) for row in answers)
