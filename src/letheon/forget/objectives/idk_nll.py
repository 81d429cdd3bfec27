"""Plain I-don't-know finetuning (IdkNLL): learn a refusal as the answer to each forget question, beside retain rows.

Paper:   Maini et al., TOFU, arXiv 2401.06121, "preference optimization":
         L = γ·CE(refusals to the forget questions) + α·CE(retain); IdkNLL in open-unlearning (arXiv 2506.12618).
Differs: each cross-entropy is a mean over its own tokens, as in open-unlearning; TOFU's code averages over the tokens
         of both batches together. The true answers are in no loss and in no forward pass, so `forget_nll` is not
         logged, by which `stop=control` ends a run. `idk` is preference optimisation (`dpo`) towards the same refusals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import method
from letheon.core.rows.encoding import Batch
from letheon.core.scoring.likelihood import Scores
from letheon.forget.objectives.dpo import read_refusals
from letheon.forget.objectives.drawn_answers import DrawnAnswers
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings
from letheon.forget.parts import Pair, PairIndices, Rows, Terms
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request


@dataclass(frozen=True)
class Settings(LikelihoodSettings):
    refusals: str = ""  # a file of refusals, one per line; default the package's own


def refusal_loss(logp: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """−log p of each token of a refusal (nats)."""
    return -logp


@method("objective", "idk_nll", Settings, paper="2401.06121", wants={"retain"})
class IdkNLL(LikelihoodObjective):
    settings: Settings

    @staticmethod
    def check_recipe(recipe: Recipe, request: Request | None) -> None:
        """Refuse a choice among the tokens of the true answers, which no loss sees."""
        if recipe.option("tokens") != "answer":
            raise InputError("idk_nll learns whole refusals and sees no true answer", "use tokens=answer")

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        super().prepare(model, rows, plan)
        self.answers = DrawnAnswers(model, rows, plan, [read_refusals(self.settings.refusals)] * len(rows.forget))

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        if pair.forget is None:
            return super().terms(model, pair)
        terms = super().terms(model, replace(pair, forget=self.answers.batch(pair.forget, pair.step)))
        terms.metrics["forget_loss"] = terms.metrics.pop("forget_nll")  # of refusals: it falls as the facts go
        return terms

    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        return batch.mean(refusal_loss(scores.logp), "tokens")
