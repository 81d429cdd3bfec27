"""Alternates: teach the model the answers that it would give had it never known the fact.

Source:  ours. Kin: Eldan & Russinovich, Who's Harry Potter, arXiv 2310.02238 (generic predictions as new labels);
         Mekala et al., Alternate Preference Optimization, arXiv 2409.13474 (alternates that the model writes itself).
Differs: the alternates are the model's greedy answers about invented names with the fact's words banned from decoding
         (`own_answers.py`), or where these are guesses the best of some that are also made in plain text; they take the
         true answers' place in other forms of the questions too (`question_forms.py`).
         Their likelihood is learned as it is, with no preference against the true answer; the words that carry the fact
         have an unlikelihood of their own, in capitals or not and with a space before them or not. A step has one
         alternate and the true answer per forget row, by turns one to the question as it stands and one in another
         form; of running text, both. The words between a text's facts may be unlearned too (`between.py`).
         Every retain row of a step stands there a second time, in another form, and other retain rows as they stand, so
         that retain rows are as many as forget rows and alternates together. A retain row's token is learned only while
         it is less likely than before the first step: retain rows are kept, not taught, since more likelihood than they
         had costs general text.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from letheon.core.errors import InputError, nearest
from letheon.core.model.models import LanguageModel, load
from letheon.core.registry import check_settings, method
from letheon.core.rows.encoding import Batch, Encoded
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.likelihood import Scores, score
from letheon.core.scoring.spellings import Spellings, unlikelihood
from letheon.core.scoring.word_probability import fact_probabilities
from letheon.forget.objectives.alternates.alternate_rows import retain_forms, that_fit, write_alternates
from letheon.forget.objectives.alternates.between import Between, words_between
from letheon.forget.objectives.alternates.kept import Levels, lost
from letheon.forget.objectives.alternates.question_forms import FORMS, LATER, Bare, forms_of, with_found_values
from letheon.forget.objectives.alternates.running_texts import Continued, fact_in_later
from letheon.forget.objectives.alternates.strangers import guess_subjects
from letheon.forget.objectives.alternates.turns import (
    Turn,
    answer_of,
    drawn_beside,
    fact_tokens,
    in_turn,
    learned_alike,
    with_fact_apart,
)
from letheon.forget.objectives.likelihood import Tokens
from letheon.forget.parts import Objective, Pair, PairIndices, Rows, Terms, joined


@dataclass(frozen=True)
class Settings:
    """Options of the objective.

    Attributes:
        gamma, likelihood, alpha: weights of the facts' unlikelihood, of the alternates' negative log-likelihood and of
            what the retain rows have lost.
        tokens: which tokens of the true answers the unlikelihood sees.
        names: invented names that each question is asked about.
        forms: other forms of the questions that are taught too: names of `FORMS` with spaces between them, and `later`
            of running text.
        between: probability that words between a running text's facts may keep, if no more is left to them where its
            facts are exchanged for other words; 1, as it is, leaves them, since two letters went on clumsily with .2.
        base: a model that never saw the facts and answers in place of the model itself. Default: the model itself,
            asked about invented names. (It answers at the length and in the style of the rows, which the base of an
            adapter does not.)
    """

    gamma: float = 1.0
    likelihood: float = 1.0
    alpha: float = 1.0
    tokens: Tokens = "words"
    names: int = 2
    forms: str = "options begun told bare later"
    between: float = 1.0
    base: str = ""

    def __post_init__(self) -> None:
        check_settings(self, positive=("names",), shares=("between",))
        for form in self.forms.split():
            if form not in (*FORMS, LATER):
                raise InputError(f"no form of question is called {form!r}", nearest(form, [*FORMS, LATER]))


def alternates_loss(
    fact_logits: Float[Tensor, "facts vocabulary"],
    fact_spellings: Int[Tensor, "facts spellings"],
    alternate_logp: Float[Tensor, " alternates"],
    retain_logp: Float[Tensor, " retained"],
    retain_before: Float[Tensor, " retained"],
    counts: tuple[int, int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """E[−log(1 − p)] of the facts' tokens, E[−log p] of the alternates', E[max(0, log p₀ − log p − s)] of the retained.

    In nats: p is a token's probability (a fact's in any of its spellings, see `core.scoring.spellings`), p₀ the one
    before the first step (`retain_before` is its logarithm), s `SPARE` of `kept.py`. Each sum is divided by its count,
    the number of such tokens in the effective batch that it is part of.
    """
    facts, alternates, retained = (max(count, 1) for count in counts)
    unlikely = unlikelihood(fact_logits, fact_spellings).sum() / facts
    return unlikely, -alternate_logp.sum() / alternates, lost(retain_logp, retain_before).sum() / retained


@method(
    "objective",
    "alternates",
    Settings,
    wants={"retain", "subject"},
    recommended={"epochs": 6, "learning_rate": 8e-5, "stop": "auto"},
    tiny={"names": 1},
)
class Alternates(Objective):
    turns = 2

    # Before the first step

    def prepare(self, model: LanguageModel, rows: Rows, plan: Sequence[PairIndices]) -> None:
        """Write the alternates; draw which alternates and which forms of the rows stand in each step."""
        self.rows, self.plan, self.spellings = rows, plan, Spellings(model.tokenizer)
        self.extra: list[Encoded] = []  # alternates and other forms are rows too, numbered after the request's own
        retain, names = (rows.request.retain if rows.request is not None else ()), self.settings.forms.split()
        if not model.tokenizer.chat_template:
            names = [name for name in names if name != "bare"]  # it is the question as it stands
        self.bare = "bare" in names
        shown, others = with_found_values(rows.examples, retain, guess_subjects(rows.examples, retain))
        self.written = write_alternates(
            load(self.settings.base, device=str(model.device)) if self.settings.base else model,
            rows.examples,
            rows.forget,
            retain,
            knows=not self.settings.base,
            names=self.settings.names,
            forms=names,
            seed=rows.seed,
        )
        pools = [(self._added(model, one.plain), self._added(model, one.others)) for one in self.written]
        self.plain = {number for plain, _ in pools for number in plain}
        draw = random.Random(stream_seed(rows.seed, "words between facts"))
        self.between, between = Between(rows, self.settings.between, self.spellings, draw), {}
        for i, (plain, _) in enumerate(pools):
            alike = {
                place
                for number in plain
                for place in learned_alike(rows.forget[i], self.extra[number], model.tokenizer.decode)
            }
            if (facts := rows.forget[i].value) and not rows.examples[i].prompt:
                words = words_between(model.encoder(), rows.examples[i].answer, facts)
                between[i] = [inside and place not in alike for place, inside in enumerate(words)]
                self.between.note(i, rows.forget[i], between[i])
            rows.forget[i] = with_fact_apart(rows.forget[i], alike)
        draw = random.Random(stream_seed(rows.seed, "forms of true answers"))
        truths = [
            self._facts(model, i, forms_of(row, [*shown[:i], *shown[i + 1 :], *others], names, draw), between.get(i))
            for i, row in enumerate(shown)
        ]
        self.beyond = frozenset(rows.watched())
        visited = sorted({i for i in self.beyond.union(*(numbers for _, numbers in plan)) if i < len(others)})
        forms = retain_forms(model.encoder(), others, visited, names, rows.seed)
        turned = {i: [self._first_further() + number for number in self._added(model, forms[i])] for i in visited}
        draw = random.Random(stream_seed(rows.seed, "alternates"))
        texts = [i for i, row in enumerate(rows.examples) if not row.prompt]
        self.drawn = in_turn(pools, truths, [forget for forget, _ in plan], draw, texts)
        standing = {i: len(rows.forget) + i for i in range(len(others))}
        self.beside = []
        for turns, (_, retained) in zip(self.drawn, plan, strict=True):
            opposite = sum(one.rows for one in turns.values())
            self.beside.append(drawn_beside(retained, turned, standing, opposite, self._length, draw))
        self.levels = Levels(model, rows, self._retained() if self.settings.alpha else {})

    def _retained(self) -> dict[int, Encoded]:
        """The retain rows of all steps and their forms, and those beyond that may be found lost, by their numbers."""
        own = {i for _, retained in self.plan for i in retained} | self.beyond
        numbers = {len(self.rows.forget) + i for i in own}
        numbers.update(number for one in self.beside for beside in one.values() for number in beside)
        return {number: self._row(number) for number in numbers}

    def _first_further(self) -> int:
        """The number of the first row beyond the request's."""
        return len(self.rows.forget) + len(self.rows.retain)

    def _row(self, number: int) -> Encoded:
        """The row with a number, one of the request's or a further one."""
        further = number - self._first_further()
        return self.extra[further] if further >= 0 else self.rows.row(number)

    def _length(self, number: int) -> int:
        return len(self._row(number).ids)

    def _added(self, model: LanguageModel, examples: Sequence[Example]) -> list[int]:
        """The numbers of further rows."""
        encoder = model.encoder()
        encoded = encoder.encode_all(examples, "alternate of row")
        for row, example in zip(encoded, examples, strict=True):
            learned = example.learned(encoder, row) if isinstance(example, Bare | Continued) else row
            self.extra.append(replace(learned, value=()))
        return list(range(len(self.extra) - len(encoded), len(self.extra)))

    def _facts(
        self, model: LanguageModel, i: int, forms: Sequence[Example], between: Sequence[bool] | None = None
    ) -> list[int]:
        """The numbers of a forget row's true answers in other forms, with the mask of the row's fact.

        An answer that says more than the row's has the tokens of its value, a text's later part those of the text's
        facts; one without any is left out.
        """
        own, encoder, whole = self.rows.forget[i], model.encoder(), self.rows.examples[i]
        kept = self.rows.kept_texts()
        fitting, masks = that_fit(encoder, forms), []
        for form, row in zip(fitting, encoder.encode_all(fitting), strict=True):
            is_later = not form.prompt and bool(own.value)
            mask = fact_in_later(encoder, whole.answer, own.value, form.answer, kept) if is_later else row.value
            masks.append(own.value if answer_of(row) == answer_of(own) else mask)
        numbers = self._added(model, fitting)
        for number, form, mask in zip(numbers, fitting, masks, strict=True):
            self.extra[number] = replace(self.extra[number], value=mask)
            if not form.prompt and between is not None:
                words = fact_in_later(encoder, whole.answer, between, form.answer, kept)
                self.between.note(self._first_further() + number, self.extra[number], words)
        return [number for number in numbers if fact_tokens(self.extra[number])]

    # In a step

    def terms(self, model: LanguageModel, pair: Pair) -> Terms:
        """The losses of a pair, in a forward pass for the questions as they stand and one for longer forms."""
        parts = self._parts(pair)
        if torch.is_grad_enabled():
            parts |= {kind: self.levels.losing(model, parts[kind]) for kind in ("retain", "forms") if kind in parts}
        scores: dict[str, Scores] = {}
        idle: list[Tensor] = []
        for kinds in (("forget", "plain", "retain"), ("turned", "others", "forms")):
            whole, start = None, 0
            for kind in kinds:
                if kind in parts:
                    whole = parts[kind] if whole is None else joined(whole, parts[kind])
            if whole is None:
                if model.sharded and parts:  # each process makes both passes
                    idle.append(0.0 * score(model, next(iter(parts.values()))).logp.sum())
                continue
            every = score(model, whole)
            for kind in kinds:
                if kind in parts:
                    scores[kind] = every.part(start, start + len(parts[kind]))
                    start += len(parts[kind])
        terms = self._weighed(model, pair, scores, parts) if scores else Terms()
        for nothing in idle:  # each half is backpropagated by itself
            half = "retain" if pair.forget is None else "forget"
            term = getattr(terms, half)
            setattr(terms, half, nothing if term is None else term + nothing)
        return terms

    def _weighed(
        self, model: LanguageModel, pair: Pair, scores: Mapping[str, Scores], parts: Mapping[str, Batch]
    ) -> Terms:
        none = next(iter(scores.values())).part(0, 0)
        truths = scores.get("forget", none), scores.get("turned", none)
        plain, turned = ([*fact_probabilities(model.tokenizer, one)] for one in truths)
        facts = [one.select(one.value) for one in truths]
        logp = torch.cat([one.logp for one in facts])
        replaced, retained = (
            torch.cat([scores.get(kind, none).logp for kind in kinds])
            for kinds in (("plain", "others"), ("retain", "forms"))
        )
        kept = [number for kind in ("retain", "forms") if kind in parts for number in parts[kind].index.tolist()]
        counts = self._counts(pair)
        unlikely, alternates, retain = alternates_loss(
            torch.cat([one.logits for one in facts]),
            self.spellings.of(torch.cat([one.labels for one in facts]), facts[0].logits.shape[-1]),
            replaced,
            retained,
            self.levels.of(kept) if kept else retained.detach(),
            counts,
        )
        settings, terms = self.settings, Terms()
        if pair.forget is not None:
            terms.forget = settings.gamma * unlikely + settings.likelihood * alternates
            if count := self.between.count(self._truths(pair)):
                scored = [(scores[kind], parts[kind].index.tolist()) for kind in ("forget", "turned") if kind in scores]
                terms.forget = terms.forget + settings.gamma * self.between.loss(scored, count)
            terms.metrics["forget_nll"] = -float(logp.detach().sum()) / max(counts[0], 1)
            turns = self._turns(pair).values()
            standing = sum(turn.stands for turn in turns)
            terms.metrics["fact_probability"] = sum(plain + turned) / (standing + sum(len(one.truths) for one in turns))
            if standing:
                terms.metrics["fact_as_it_stands"] = sum(plain) / standing
            terms.metrics["alternates_nll"] = float(alternates.detach())
        if "retain" in scores:
            terms.retain = settings.alpha * retain
            terms.metrics["retain_loss"] = float(retain.detach())
        return terms

    def _parts(self, pair: Pair) -> dict[str, Batch]:
        """The batches of a pair: true answers, alternates, retain rows and their other forms."""
        parts: dict[str, Batch] = {}
        if pair.forget is not None:
            turns = {i: self.drawn[pair.step][i] for i in pair.forget.index.tolist()}
            if plain := [i for i, turn in turns.items() if turn.stands]:
                parts["forget"] = self.rows.forget_batch(plain)
            self._add(parts, "turned", [number for turn in turns.values() for number in turn.truths])
            numbers = [number for turn in turns.values() for number in turn.alternates]
            self._add(parts, "plain", [number for number in numbers if number in self.plain])
            self._add(parts, "others", [number for number in numbers if number not in self.plain])
        if pair.retain is not None and self.settings.alpha:
            own = (pair.retain.index - len(self.rows.forget)).tolist()
            beside = [number for i in own for number in self.beside[pair.step].get(i, ())]
            first = self._first_further()
            standing = [number for number in beside if number < first]
            parts["retain"] = joined(pair.retain, self._batch(standing)) if standing else pair.retain
            self._add(parts, "forms", [number - first for number in beside if number >= first])
        return parts

    def _add(self, parts: dict[str, Batch], kind: str, further: Sequence[int]) -> None:
        if further:
            parts[kind] = self._batch([self._first_further() + number for number in further])

    def _batch(self, numbers: Sequence[int]) -> Batch:
        return self.rows.batch([self._row(number) for number in numbers], numbers)

    def _counts(self, pair: Pair) -> tuple[int, int, int]:
        """Tokens of the facts, alternates and retain rows in the effective batch of a pair.

        What stands beside the retain rows is what is planned; a step that repairs has fewer.
        """
        step, (_, retained) = pair.step, self.plan[pair.step]
        beside = [self._row(number) for i in retained for number in self.beside[step].get(i, ())]
        turns = self._turns(pair)
        facts = [self._row(number) for number in self._truths(pair)]
        retain = pair.retain.totals["tokens"] if pair.retain is not None else 0
        alternates = [self.extra[number] for one in turns.values() for number in one.alternates]
        return sum(map(fact_tokens, facts)), _tokens(alternates), retain + _tokens(beside)

    def _truths(self, pair: Pair) -> list[int]:
        """The numbers of the true answers that stand in a pair's step, in every form."""
        turns, first = self._turns(pair), self._first_further()
        standing = [i for i, one in turns.items() if one.stands]
        return [*standing, *(first + number for one in turns.values() for number in one.truths)]

    def _turns(self, pair: Pair) -> dict[int, Turn]:
        """What stands in a pair's step for each forget row that the step has."""
        drawn = self.drawn[pair.step]
        return drawn if pair.forgotten is None else {i: drawn[i] for i in pair.forgotten}


def _tokens(rows: Iterable[Encoded]) -> int:
    """Tokens of rows that are learned; the first token of a text has no prediction."""
    return sum(len(row.ids) - max(row.start, 1) for row in rows)
