"""Alternates: teach the model the answers that it would give had it never known the fact.

Source:  ours. Kin: Eldan & Russinovich, Who's Harry Potter, arXiv 2310.02238 (generic predictions as new labels);
         Mekala et al., Alternate Preference Optimization, arXiv 2409.13474 (alternates that the model writes itself).
Differs: the alternates are the model's greedy answers about invented names with the fact's words banned from decoding
         (`strangers.py`), also to other forms of the question (`question_forms.py`). Their likelihood is learned as it
         is, with no preference against the true answer; the words that carry the fact have an unlikelihood of their
         own. A step has an alternate to each forget row's question and one to another form of it. Every retain row of
         a step stands there a second time, in another form; further retain rows in other forms make the retain rows at
         least as many as the forget rows and alternates together.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError, nearest
from letheon.core.model.models import LanguageModel, load
from letheon.core.registry import check_settings, method
from letheon.core.rows.encoding import Batch, Encoded
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import by_length, stream_seed
from letheon.core.scoring.likelihood import Scores, score
from letheon.forget.objectives.alternates.alternate_rows import retain_forms, write_alternates
from letheon.forget.objectives.alternates.question_forms import FORMS
from letheon.forget.objectives.likelihood import Tokens
from letheon.forget.parts import Objective, Pair, PairIndices, Rows, Terms, joined


@dataclass(frozen=True)
class Settings:
    """Options of the objective.

    Attributes:
        gamma, likelihood, alpha: weights of the facts' unlikelihood, of the alternates' and of the retain rows'
            negative log-likelihood.
        tokens: which tokens of the true answers the unlikelihood sees.
        names: invented names that each question is asked about.
        forms: other forms of the questions that are taught too: names of `FORMS` with spaces between them.
        base: a model that never saw the facts and answers in place of the model itself. Default: the base of the
            model's adapter, if it does not know the facts; else the model itself, asked about invented names.
    """

    gamma: float = 1.0
    likelihood: float = 1.0
    alpha: float = 1.0
    tokens: Tokens = "words"
    names: int = 2
    forms: str = "options begun told"
    base: str = ""

    def __post_init__(self) -> None:
        check_settings(self, positive=("names",))
        for form in self.forms.split():
            if form not in FORMS:
                raise InputError(f"no form of question is called {form!r}", nearest(form, list(FORMS)))


def unlikelihood_loss(
    logits: Float[Tensor, "tokens vocabulary"], labels: Int[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """−log(1 − p) of each token (nats), p its probability.

    Its gradient by the logits is p (e − q), with e the token's unit vector and q the distribution without the token,
    renormalised: unlike that of ascent it does not vanish as p → 1. (It is CE-U's gradient, arXiv 2503.01224.)
    """
    others = logits.scatter(-1, labels[:, None], float("-inf"))
    return logits.logsumexp(-1) - others.logsumexp(-1)


def alternates_loss(
    fact_logits: Float[Tensor, "facts vocabulary"],
    fact_labels: Int[Tensor, " facts"],
    alternate_logp: Float[Tensor, " alternates"],
    retain_logp: Float[Tensor, " retained"],
    counts: tuple[int, int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """(E[−log(1 − p)] of the facts' tokens, E[−log p] of the alternates', E[−log p] of the retain rows'), in nats.

    Each sum is divided by its count, the number of such tokens in the effective batch that these are a part of.
    """
    facts, alternates, retained = (max(count, 1) for count in counts)
    unlikely = unlikelihood_loss(fact_logits, fact_labels).sum() / facts
    return unlikely, -alternate_logp.sum() / alternates, -retain_logp.sum() / retained


@method(
    "objective",
    "alternates",
    Settings,
    wants={"retain", "subject"},
    recommended={"epochs": 6, "learning_rate": 2e-5, "stop": "auto"},
)
class Alternates(Objective):
    # Before the first step

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        """Write the alternates; draw which alternates and which forms of retain rows stand in each step."""
        self.rows, self.plan = rows, plan
        self.extra: list[Encoded] = []  # alternates and retain forms are rows too, numbered after the request's own
        retain = rows.request.retain if rows.request is not None else ()
        with self._stranger(model) as (stranger, knows):
            self.written = write_alternates(
                stranger,
                rows.examples,
                rows.forget,
                retain,
                knows=knows,
                names=self.settings.names,
                forms=self.settings.forms.split(),
                seed=rows.seed,
            )
        pools = [[self._added(model, one.plain), self._added(model, one.others)] for one in self.written]
        forms = retain_forms(retain, self.settings.forms.split(), rows.seed)
        visited = {i for _, numbers in plan for i in numbers if i < len(forms)}
        beside = {i: self._added(model, forms[i]) for i in sorted(visited)}
        draw = random.Random(stream_seed(rows.seed, "alternates"))
        self.replacing = [{i: [draw.choice(pool) for pool in pools[i] if pool] for i in forget} for forget, _ in plan]
        self.beside = [
            self._drawn_forms(beside, retained, len(replaced) + sum(map(len, replaced.values())), draw)
            for replaced, (_, retained) in zip(self.replacing, plan, strict=True)
        ]

    @staticmethod
    def _drawn_forms(
        forms: Mapping[int, Sequence[int]], retained: Sequence[int], opposite: int, draw: random.Random
    ) -> dict[int, list[int]]:
        """Draw the forms that stand beside each retain row of a step: one of its own, then forms of any retain rows.

        There are as many as make the step's retain rows at least as many as the `opposite` rows. There are none where
        the request's retain rows are not at hand.
        """
        if not forms:
            return {}
        more = max(-(-opposite // len(retained)) - 2, 0) if retained else 0
        rows = sorted(forms)
        return {i: [draw.choice(forms[j]) for j in (i, *draw.choices(rows, k=more))] for i in retained}

    def _added(self, model: LanguageModel, examples: Sequence[Example]) -> list[int]:
        """The numbers of further rows."""
        encoded = model.encoder().encode_all(examples, "alternate of row")
        self.extra += [replace(row, value=()) for row in encoded]
        return list(range(len(self.extra) - len(encoded), len(self.extra)))

    @contextmanager
    def _stranger(self, model: LanguageModel) -> Iterator[tuple[LanguageModel, bool]]:
        """The model that answers, and whether it knows the facts."""
        if self.settings.base:
            yield load(self.settings.base, device=str(model.device)), False
            return
        if model.has_adapter:
            known = self._fact_probability(model)
            with model.model.disable_adapter():
                if self._fact_probability(model) < known / 2:
                    yield model, False
                    return
        yield model, True

    @torch.no_grad()
    def _fact_probability(self, model: LanguageModel) -> float:
        """The mean probability of the tokens that carry the facts; the frozen layers' cache is not asked."""
        frozen, model.frozen = model.frozen, None
        found = []
        for part in by_length([len(row.ids) for row in self.rows.forget], 16):
            scores = score(model, self.rows.forget_batch(part))
            found.append(scores.select(scores.value).logp.exp())
        model.frozen = frozen
        return float(torch.cat(found).mean())

    # In a step

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        """The losses of a pair, in one forward pass."""
        parts = self._parts(pair)
        if not parts:
            return Terms()
        whole, start = None, 0
        for part in parts.values():
            whole = part if whole is None else joined(whole, part)
        assert whole is not None
        every = score(model, whole)
        scores: dict[str, Scores] = {}
        for kind, part in parts.items():
            scores[kind] = every.part(start, start + len(part))
            start += len(part)
        return self._weighed(pair, scores, every)

    def _weighed(self, pair: Pair, scores: dict[str, Scores], every: Scores) -> Terms:
        none = every.part(0, 0)
        facts = scores.get("forget", none)
        facts = facts.select(facts.value)
        retained = torch.cat([scores.get(kind, none).logp for kind in ("retain", "forms")])
        replaced = scores.get("alternates", none).logp
        unlikely, alternates, retain = alternates_loss(
            facts.logits, facts.labels, replaced, retained, self._counts(pair)
        )
        settings, terms = self.settings, Terms()
        if pair.forget is not None:
            terms.forget = settings.gamma * unlikely + settings.likelihood * alternates
            terms.metrics["forget_nll"] = -float(pair.forget.mean(facts.logp.detach(), "value"))
            terms.metrics["fact_probability"] = float(pair.forget.mean(facts.logp.detach().exp(), "value"))
            terms.metrics["alternates_nll"] = float(alternates.detach())
        if "retain" in scores:
            terms.retain = settings.alpha * retain
            terms.metrics["retain_loss"] = float(retain.detach())
        return terms

    def _parts(self, pair: Pair) -> dict[str, Batch]:
        """The batches of a pair: true answers, alternates, retain rows and their other forms."""
        parts: dict[str, Batch] = {}
        if pair.forget is not None:
            parts["forget"] = pair.forget
            drawn = self.replacing[pair.step]
            self._add(parts, "alternates", [number for i in pair.forget.index.tolist() for number in drawn[i]])
        if pair.retain is not None and self.settings.alpha:
            parts["retain"] = pair.retain
            numbers = (pair.retain.index - len(self.rows.forget)).tolist()
            self._add(parts, "forms", [number for i in numbers for number in self.beside[pair.step].get(i, ())])
        return parts

    def _add(self, parts: dict[str, Batch], kind: str, numbers: Sequence[int]) -> None:
        first = len(self.rows.forget) + len(self.rows.retain)
        if numbers:
            parts[kind] = self.rows.batch([self.extra[n] for n in numbers], [first + n for n in numbers])

    def _counts(self, pair: Pair) -> tuple[int, int, int]:
        """Tokens of the facts, alternates and retain rows in the effective batch of a pair."""
        step, (_, retained) = pair.step, self.plan[pair.step]
        beside = [number for i in retained for number in self.beside[step].get(i, ())]
        facts = pair.forget.totals["value"] if pair.forget is not None else 0
        retain = pair.retain.totals["tokens"] if pair.retain is not None else 0
        alternates = [number for drawn in self.replacing[step].values() for number in drawn]
        return facts, self._tokens(alternates), retain + self._tokens(beside)

    def _tokens(self, numbers: Iterable[int]) -> int:
        return sum(len(self.extra[n].ids) - max(self.extra[n].start, 1) for n in numbers)
