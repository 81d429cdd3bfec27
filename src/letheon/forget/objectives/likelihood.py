"""The base of likelihood objectives: the retain term, fact spans, cached reference values.

A subclass writes `forget_loss` only. With `tokens="value"` or `"words"` (ours, of no paper) the forget loss sees the
tokens that carry the fact and the answer's other tokens are kept by their negative log-likelihood; with
`tokens="answer"` (the papers') it sees the whole answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Batch, Encoded, Unit
from letheon.core.rows.sampling import by_length
from letheon.core.scoring.likelihood import Positions, Scores, score
from letheon.core.scoring.reference import Reference
from letheon.forget.parts import Objective, Pair, PairIndices, Rows, Terms, score_pair

Tokens = Literal["answer", "value", "words"]


@dataclass(frozen=True)
class LikelihoodSettings:
    """Options that every likelihood objective has.

    Attributes:
        gamma, alpha: weights of the forget and the retain loss.
        retain_loss: `nll` of the retain answers, or `kl` to the model before forgetting.
        kl_positions: `all` real tokens of the retain rows, as the field's code has it, or only their `labels`.
            (The field's code also averages over padding; that would make the loss depend on how rows are batched.)
        tokens: which tokens the forget loss sees: the whole `answer`; the `value` as one span, found where a row does
            not give it; or the given value, else the single `words` that carry the fact (`core.scoring.word_masks`).
        keep: weight of the negative log-likelihood of the other tokens, unless `tokens="answer"`.
    """

    gamma: float = 1.0
    alpha: float = 1.0
    retain_loss: Literal["nll", "kl"] = "nll"
    kl_positions: Positions = "all"
    tokens: Tokens = "answer"
    keep: float = 1.0


class LikelihoodObjective(Objective):
    """Base of objectives that are functions of the answers' logits; a subclass writes `forget_loss`."""

    Settings: ClassVar[type] = LikelihoodSettings
    needs_reference: ClassVar[bool] = False

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.reference_logp = torch.zeros(0)
        self.reference = Reference()

    # The method: what a subclass writes

    def forget_loss(self, scores: Scores, batch: Batch) -> Tensor:
        """The forget loss as this batch's share of the effective batch's; `batch.mean(x, "tokens")` averages."""
        raise TypeError(f"{type(self).__name__} does not say what its forget loss is")

    def positions(self) -> Positions:
        """The positions at which the forget loss needs logits."""
        return "labels"

    # Its seat in the loop

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        """Store reference log-probabilities of the forget answers, and reference states of the retain rows for a KL."""
        if self.needs_reference:
            self.reference_logp = self.sequence_logps(model, rows, rows.forget, range(len(rows.forget)))
        if self.settings.alpha and self.settings.retain_loss == "kl":
            self.reference.keep(model, rows.visited(plan)[1], self.settings.kl_positions)

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        """Forget, keep and retain terms; a pair with both halves takes one forward pass if it can."""
        pair = pair if self.settings.alpha else pair.only_forget()
        kl = self.settings.retain_loss == "kl"
        retain_positions: Positions = self.settings.kl_positions if kl else "labels"
        if self.positions() == retain_positions:
            forget, retain = score_pair(model, pair, retain_positions)
        else:
            forget, _ = score_pair(model, pair.only_forget(), self.positions())
            _, retain = score_pair(model, pair.only_retain(), retain_positions)
        terms = Terms()
        if forget is not None and pair.forget is not None:
            self._forget(terms, forget, pair.forget)
        if retain is not None and pair.retain is not None:
            loss = self._kl(retain, pair.retain) if kl else -pair.retain.mean(retain.logp, "tokens")
            terms.retain = self.settings.alpha * loss
            terms.metrics["retain_loss"] = float(loss.detach())
        return terms

    def _forget(self, terms: Terms, scores: Scores, batch: Batch) -> None:
        by_value = self.settings.tokens != "answer"
        chosen = scores.select(scores.value) if by_value else scores
        unit: Unit = "value" if by_value else "tokens" if self.positions() == "labels" else "positions"
        terms.forget = self.settings.gamma * self.forget_loss(chosen, _counted_as_tokens(batch, unit))
        terms.metrics["forget_nll"] = -float(batch.mean(chosen.logp.detach(), unit))
        if by_value and not bool(scores.value.all()):
            nll = -batch.mean(scores.select(~scores.value).logp, "others")
            terms.keep = self.settings.keep * nll
            terms.metrics["keep_nll"] = float(nll.detach())

    def _kl(self, scores: Scores, batch: Batch) -> Tensor:
        """KL(reference || model) per position, averaged over the positions of the effective batch."""
        reference = torch.log_softmax(self.reference.logits(batch), -1)
        current = torch.log_softmax(scores.logits, -1)
        kl = torch.nn.functional.kl_div(current, reference, log_target=True, reduction="none").sum(-1)
        return batch.mean(kl, "tokens" if self.settings.kl_positions == "labels" else "positions")

    @torch.no_grad()
    def sequence_logps(
        self, model: LanguageModel, rows: Rows, answers: Sequence[Encoded], numbers: Sequence[int]
    ) -> Tensor:
        """Log-probability of each answer under the present model, [answers], summed over the tokens in the forget loss.

        `numbers` are the rows' numbers: no two different rows may share one.
        """
        found = torch.zeros(len(answers), device=model.device)
        for chosen in by_length([len(row.ids) for row in answers], 16):
            scores = score(model, rows.batch([answers[i] for i in chosen], [numbers[i] for i in chosen]))
            if self.settings.tokens != "answer":
                scores = scores.select(scores.value)
            found[chosen] = scores.sequence_logp()
        return found


def _counted_as_tokens(batch: Batch, unit: Unit) -> Batch:
    """Count the batch's `tokens` in another unit, so that a method's formula need not know which unit it is."""
    lengths = batch.value_lengths if unit == "value" else batch.lengths
    return replace(batch, totals=Counter({**batch.totals, "tokens": batch.totals[unit]}), lengths=lengths)
