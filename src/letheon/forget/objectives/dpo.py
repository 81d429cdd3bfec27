"""Preference optimisation towards another answer: a refusal (IdkDPO), or a false answer of the same form.

Paper:   Rafailov et al., Direct Preference Optimization, arXiv 2305.18290; as an unlearning loss in Zhang et al.,
         arXiv 2404.05868, and open-unlearning (arXiv 2506.12618).
Differs: none. One alternate is drawn uniformly for each row of each step, so it changes from epoch to epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.registry import Checked, method
from letheon.core.rows.encoding import Batch
from letheon.core.rows.examples import Example
from letheon.core.scoring.likelihood import Scores, score
from letheon.forget.objectives.drawn_answers import DrawnAnswers
from letheon.forget.objectives.likelihood import LikelihoodObjective, LikelihoodSettings
from letheon.forget.parts import Pair, PairIndices, Rows, Terms
from letheon.forget.recipe import Recipe
from letheon.forget.request import Request


@dataclass(frozen=True)
class Settings(LikelihoodSettings, Checked, positive=("beta",)):
    beta: float = 0.1
    alternates: Literal["idk", "perturbed"] = "idk"  # refusals, or the row's own perturbed answers
    refusals: str = ""  # a file of refusals, one per line; default the package's own


def dpo_loss(
    chosen: Float[Tensor, " rows"],
    chosen_reference: Float[Tensor, " rows"],
    rejected: Float[Tensor, " rows"],
    rejected_reference: Float[Tensor, " rows"],
    beta: float,
) -> Float[Tensor, " rows"]:
    """−(2/β) log σ(β[log(p/p_ref)(chosen) − log(p/p_ref)(rejected)]) per row; log-probabilities are summed (nats)."""
    return -2 / beta * logsigmoid(beta * ((chosen - chosen_reference) - (rejected - rejected_reference)))


@method(
    "objective",
    "dpo",
    Settings,
    paper="2305.18290",
    needs={"reference", "alternates"},
    wants={"retain"},
    recipes={"idk": "dpo:alternates=idk"},
    tiny=({}, {"alternates": "perturbed"}),
)
class DPO(LikelihoodObjective):
    needs_reference = True

    @staticmethod
    def check_recipe(recipe: Recipe, request: Request | None) -> None:
        """Refuse forget rows without perturbed answers where `alternates=perturbed` needs them."""
        if request is not None and recipe.option("alternates") == "perturbed":
            for row in request.forget:
                perturbed_of(row)

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        super().prepare(model, rows, plan)
        self.answers = DrawnAnswers(model, rows, plan, self.pools(model, rows))
        drawn, numbers = self.answers.encoded, list(self.answers.numbers.values())
        # scored whole, whichever tokens of the true answer the forget loss sees
        logps = LikelihoodObjective(LikelihoodSettings()).sequence_logps(model, rows, list(drawn.values()), numbers)
        self.alternate_reference = dict(zip(drawn, logps, strict=True))

    def pools(self, model: LanguageModel, rows: Rows) -> Sequence[Sequence[str]]:
        """The answers among which each forget row's preferred one is drawn."""
        refusals = read_refusals(self.settings.refusals) if self.settings.alternates == "idk" else []
        return [refusals or perturbed_of(row) for row in rows.examples]

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        if pair.forget is not None:
            self.chosen = score(model, self.answers.batch(pair.forget, pair.step)).sequence_logp()
            used = self.answers.of(pair.forget, pair.step)
            self.chosen_reference = torch.stack([self.alternate_reference[one] for one in used])
        return super().terms(model, pair)

    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        rejected_reference = self.reference_logp[batch.index]
        loss = dpo_loss(
            self.chosen, self.chosen_reference, scores.sequence_logp(), rejected_reference, self.settings.beta
        )
        return batch.mean(loss, "rows")


def perturbed_of(row: Example) -> Sequence[str]:
    """A row's perturbed answers.

    Raises:
        InputError: it has none.
    """
    if not row.perturbed_answers:
        raise InputError(f"forget row {row.id} has no perturbed answers", "add them, or use alternates=idk")
    return row.perturbed_answers


def read_refusals(path: str = "") -> list[str]:
    """Read refusals, one per line, from the package or from a file."""
    if path and not Path(path).is_file():
        raise InputError(f"{path} does not exist", "give a text file with one refusal per line")
    try:
        place = Path(path) if path else files("letheon.forget.objectives").joinpath("refusals.txt")
        text = place.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})", "save the file as UTF-8") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} holds no refusal", "write one refusal per line")
    return lines
