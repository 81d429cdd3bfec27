"""A look at a model while it is trained: what it still says of the facts, how likely its retain rows are.

Ours, of no paper. Forward passes over the request's rows, greedy answers to the doubtful ones, and how fluent these are
to the model before.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from letheon.core.model.models import LanguageModel
from letheon.core.rows.encoding import Encoded
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import by_length
from letheon.core.scoring.decoding import Ask, decode
from letheon.core.scoring.generation import without_thought
from letheon.core.scoring.likelihood import score
from letheon.core.scoring.overlap import repeats_itself, rouge_l_recall
from letheon.core.scoring.said import says
from letheon.core.scoring.spellings import Spellings, spelled_logp
from letheon.core.scoring.word_probability import fact_probability
from letheon.core.training.sharding import trained_weights
from letheon.forget.objectives.alternates.question_forms import without_template
from letheon.forget.objectives.alternates.running_texts import Continued, fact_in_later, from_later_on
from letheon.forget.objectives.alternates.strangers import (
    guess_subjects,
    parts_in,
    parts_of_code,
    unused_names,
    words_of_facts,
)
from letheon.forget.parts import Replacement, Rows

# Rows that are asked greedily, and places at which running texts are continued, if the texts are not more.
ASKED, CONTINUED = 8, 20
# Largest probability of a fact that is gone, of a running text's facts, of those behind one of its later beginnings or
# a question in plain text (decisions/0004), and the metric of one that is not, with its row's number behind it.
GOAL, GOAL_OF_TEXT, GOAL_BEHIND, LEFT = 0.02, 0.005, 0.05, "look_left_"
# A retain row is lost if one of its tokens was likelier than not before and is below UNLIKELY now; its metric has its
# number behind it.
UNLIKELY, LOST = 1 / 3, "look_lost_"
# The metric of the largest probability of a fact behind other beginnings, where any is looked at.
BEHIND = "look_behind"
# The metrics of the fluency of answers, of the alternates to the same questions, and of how much less fluent than their
# alternates running texts go on.
FLUENCY, ALTERNATES, TEXTS = "look_fluency", "look_fluency_of_alternates", "look_texts_behind_alternates"
# An answer gives the fact if it says SAID of its words, or a THIRD of them or SAID of a code's parts and REPEATED of
# the answer by ROUGE-L.
SAID, REPEATED, THIRD = 0.5, 0.77, 1 / 3


class Looks:
    """Looks at a model.

    Args:
        model: the model that is trained, as it is before the first step.
        rows: the request's rows as tokens, the forget rows with the masks of their facts.
        before: the trained parameters' values before the first step, by name.
        written: per forget row what is learned in its place, with the fluency that it has to a model that does not know
            the facts; the answers' fluency is not looked at where there are none.
        bare: whether facts are asked for behind questions in plain text too.
    """

    def __init__(
        self,
        model: LanguageModel,
        rows: Rows,
        before: Mapping[str, Tensor],
        written: Sequence[Replacement] = (),
        bare: bool = False,
    ) -> None:
        self.model, self.rows, self.before, self.bare = model, rows, before, bare
        known = [one.fluency for one in written if one.fluency is not None]
        self.fluency = mean = sum(known) / len(known) if known else None
        self.alternates = [] if mean is None else [mean if one.fluency is None else one.fluency for one in written]
        self.continued = _spread(_continued(written), CONTINUED)
        retain = rows.request.retain if rows.request is not None else ()
        self.looked_at, self.spellings = rows.watched(), Spellings(model.tokenizer)
        self.words = words_of_facts(rows.examples, retain)
        self.kept_parts = parts_in("\n".join(row.answer for row in retain))
        self.subjects = guess_subjects(rows.examples, retain)
        self.name = next(iter(unused_names(rows.examples, retain, 1)), None)
        with self._as_it_is():
            self.retain_before = self._retained()

    @torch.no_grad()
    def look(self) -> dict[str, float]:
        """Return the metrics of a look.

        They are the facts' probabilities (mean, largest, of each that is not gone, whether as it is asked or behind
        other beginnings), the share of the asked rows that give their fact, the retain rows' probability relative to
        before, the probability of the least likely token of each that is lost, the answers' fluency, and that of the
        alternates to the same questions (nats per token).
        """
        with self._as_it_is():
            facts, behind = self._fact_probabilities(), self._probabilities_behind()
            likely = sorted(range(len(facts)), key=lambda i: -facts[i])
            asked = [i for i in likely if self.rows.examples[i].prompt][:ASKED]
            answers = self._answers(asked)
            given = [self._gives(i, answer) for i, answer in zip(asked, answers, strict=True)]
            retained, lost = self._kept()
            found = {
                "look_facts": sum(facts) / len(facts),
                "look_likeliest": max(facts),
                **({BEHIND: max(behind)} if any(behind) else {}),
                "look_given": sum(given) / max(len(given), 1),
                "look_retain": retained,
                **{f"{LOST}{i}": p for i, p in lost.items()},
            }
            said = {i for i, gave in zip(asked, given, strict=True) if gave}
            for i, (p, other, row) in enumerate(zip(facts, behind, self.rows.examples, strict=True)):
                gone = self._is_gone(p, other, row)
                found |= {f"{LEFT}{i}": max(p, other)} if i in said or not gone else {}
            return found | (self._fluency(asked, answers) if self.alternates else {})

    @torch.no_grad()
    def gone(self) -> bool:
        """Whether every row's fact is improbable enough, see `_probabilities_behind`; none is asked."""
        with self._as_it_is():
            both = zip(self._fact_probabilities(), self._probabilities_behind(), self.rows.examples, strict=True)
            return all(self._is_gone(p, other, row) for p, other, row in both)

    @torch.no_grad()
    def given(self) -> list[int]:
        """The rows that give their fact, of all that can be asked."""
        with self._as_it_is():
            asked = [i for i, row in enumerate(self.rows.examples) if row.prompt]
            return [i for i, answer in zip(asked, self._answers(asked), strict=True) if self._gives(i, answer)]

    @contextmanager
    def _as_it_is(self) -> Iterator[None]:
        """Within the block the frozen layers' cache, which knows the request's rows only, is not asked."""
        frozen, self.model.frozen = self.model.frozen, None
        try:
            yield
        finally:
            self.model.frozen = frozen

    @torch.no_grad()
    def _per_row(
        self, encoded: Sequence[Encoded], spellings: Spellings | None = None
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Per row its answer's tokens, their log-probabilities (in any spelling), and which carry the fact."""
        found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for part in by_length([len(row.ids) for row in encoded], 16):
            scores = score(self.model, self.rows.batch([encoded[i] for i in part], part))
            logp, size = scores.logp, scores.logits.shape[-1]
            if spellings is not None:
                logp = spelled_logp(scores.logits, spellings.of(scores.labels, size))
            for place, i in enumerate(part):
                mine = scores.row == place
                found[i] = scores.labels[mine], logp[mine].float(), scores.value[mine]
        return [found[i] for i in range(len(encoded))]

    def _fact_probabilities(self) -> list[float]:
        """Per row the probability of its fact in any spelling, see `core.scoring.word_probability`."""
        rows = self._per_row(self.rows.forget, self.spellings)
        return [fact_probability(self.model.tokenizer, labels, logp, fact) for labels, logp, fact in rows]

    def _probabilities_behind(self) -> list[float]:
        """Per row the probability of a question's fact in plain text, the largest of a text's in its later parts."""
        encoder, every = self.model.encoder(), list(zip(self.rows.examples, self.rows.forget, strict=True))
        behind, owners, kept = [], [], self.rows.kept_texts()
        for i, (example, row) in enumerate(every):
            plain = without_template(encoder, example, row) if self.bare and example.prompt else None
            if plain is not None and len(plain.ids) <= encoder.context_length:
                behind.append(plain)
                owners.append(i)
            for part in from_later_on(example) if row.value else ():
                mask = fact_in_later(encoder, example.answer, row.value, part.answer, kept)
                behind.append(replace(encoder.encode(part), value=mask))
                owners.append(i)
        found = [0.0] * len(every)
        for i, (labels, logp, fact) in zip(owners, self._per_row(behind, self.spellings), strict=True):
            p = fact_probability(self.model.tokenizer, labels, logp, fact)
            found[i] = found[i] if p <= found[i] or math.isnan(found[i]) else p
        return found

    @staticmethod
    def _is_gone(p: float, behind: float, row: Example) -> bool:
        return p <= (GOAL if row.prompt else GOAL_OF_TEXT) and behind <= GOAL_BEHIND

    def _retained(self) -> list[Tensor]:
        """The log-probabilities of the looked-at retain rows' tokens (nats)."""
        return [logp for _, logp, _ in self._per_row([self.rows.retain[i] for i in self.looked_at])]

    def _kept(self) -> tuple[float, dict[int, float]]:
        """How likely the looked-at retain rows are relative to before, and the numbers of those that are lost.

        A row counts by its answer's least likely token: one makes a decoded answer wrong, and hardly moves the mean
        over tokens.
        """
        if not self.looked_at:
            return 1.0, {}
        lost = {}
        now, before = ([logp.exp() for logp in rows] for rows in (self._retained(), self.retain_before))
        for i, p, then in zip(self.looked_at, now, before, strict=True):
            if bool(((then > 1 / 2) & ~(p >= UNLIKELY)).any()):
                lost[i] = float(p.min())
        level, first = (sum(float(p.min()) for p in rows) for rows in (now, before))
        return level / max(first, 1e-9), lost

    def _answers(self, asked: Sequence[int]) -> list[str]:
        rows = self.rows.forget
        limit = max((len(rows[i].ids) - rows[i].start for i in asked), default=0) + 4
        texts = [Ask(tuple(self.model.encoder().prompt(self.rows.examples[i].prompt)), limit) for i in asked]
        decode(self.model, texts)
        return [without_thought(self.model.tokenizer.decode(one.new, skip_special_tokens=True)) for one in texts]

    def _gives(self, i: int, answer: str) -> bool:
        row = self.rows.examples[i]
        if row.value is not None:
            return says(answer, row.value)
        share = sum(says(answer, word) for word in self.words[i]) / max(len(self.words[i]), 1)
        partly = share > THIRD or any(self._says_half(answer, word) for word in self.words[i])
        return share > SAID or (partly and rouge_l_recall(answer, row.answer) >= REPEATED)

    def _says_half(self, answer: str, word: str) -> bool:
        """Whether an answer says half of a code's parts: PV-71350 for PV-71340."""
        parts = parts_of_code(word, self.kept_parts)
        return bool(parts) and sum(says(answer, part) for part in parts) >= SAID * len(parts)

    def _fluency(self, asked: Sequence[int], answers: Sequence[str]) -> dict[str, float]:
        """Mean log-probability per token (nats) of the answers to the model before, told of an invented name.

        Beside it the alternates' to the same questions: names are less likely than sentences.
        """
        told, goals = [], []
        for i, answer in zip(asked, answers, strict=True):
            if answer.strip():
                goals.append(self.alternates[i])
                prompt, subject = self.rows.examples[i].prompt, self.subjects[i]
                if subject and self.name:
                    prompt, answer = (text.replace(subject, self.name) for text in (prompt, answer))
                told.append(Example(prompt, answer))
        levels = self._levels_before(self.model.encoder().encode_all(told))
        return {FLUENCY: _mean(levels), ALTERNATES: _mean(goals)} if told else {}

    @torch.no_grad()
    def fluency_of_texts(self) -> dict[str, float]:
        """How much less likely to the model before (nats per token, at most 0) the running texts go on than alternates.

        They are continued from the places where alternates continue them, as long or up to where they repeat
        themselves: what comes again is certain, however broken it is. The text that falls short most in the mean over
        its places counts, and a place that is more fluent pays for no other. Without running text there is nothing.
        """
        encoder, decoded = self.model.encoder(), self.model.tokenizer.decode
        places = [(i, row.learned(encoder, encoder.encode(row))) for i, row in self.continued]
        alternates = [text for _, text in places]
        asked = [
            Ask(text.ids[: text.start], len(text.ids) - text.start, lambda new: repeats_itself(decoded(new)))
            for text in alternates
        ]
        with self._as_it_is():
            decode(self.model, asked)
            texts = [Encoded((*one.ids, *self._until_it_repeats(one.new)), len(one.ids)) for one in asked]
            levels = self._levels_before([*texts, *alternates])
        short: dict[int, list[float]] = {}
        for (i, _), level, goal in zip(places, levels[: len(texts)], levels[len(texts) :], strict=True):
            short.setdefault(i, []).append(0.0 if level >= goal else level - goal)
        return {TEXTS: float(torch.tensor([_mean(one) for one in short.values()]).min())} if short else {}

    def _until_it_repeats(self, new: Sequence[int]) -> Sequence[int]:
        texts = (self.model.tokenizer.decode(new[:count]) for count in range(1, len(new)))
        return new[: next((count for count, text in enumerate(texts, start=1) if repeats_itself(text)), len(new))]

    def _levels_before(self, encoded: Sequence[Encoded]) -> list[float]:
        """Mean log-probability per token (nats) of each row's answer to the model before."""
        if not encoded:
            return []
        with self._weights_before():
            return [float(logp.mean()) for _, logp, _ in self._per_row(encoded)]

    @contextmanager
    def _weights_before(self) -> Iterator[None]:
        """Within the block the trained parameters have the values that they had before the first step."""
        parameters = trained_weights(self.model)

        def exchange() -> None:
            for name, values in self.before.items():
                now = parameters[name].detach().clone()
                parameters[name].detach().copy_(values)
                values.copy_(now)
            torch.clear_autocast_cache()  # autocast would go on with casts of the weights that were exchanged

        exchange()
        try:
            yield
        finally:
            exchange()


def _continued(written: Sequence[Replacement]) -> list[tuple[int, Continued]]:
    """Per place of the running texts its first alternate, with the text's number."""
    found: dict[tuple[int, str], Continued] = {}
    for i, one in enumerate(written):
        for row in one.plain:
            if isinstance(row, Continued):
                found.setdefault((i, row.given), row)
    return [(i, row) for (i, _), row in found.items()]


def _spread(every: Sequence[tuple[int, Continued]], most: int) -> list[tuple[int, Continued]]:
    """At most so many places, but one of each text, in turn: of the first text its first, of the second its second."""
    texts: dict[int, list[int]] = {}
    for place, (i, _) in enumerate(every):
        texts.setdefault(i, []).append(place)
    alike: Counter[int] = Counter()  # texts with as many places that have had their turn
    turns: list[tuple[int, int]] = []
    for places in texts.values():
        turns += [(turn, places[(alike[len(places)] + turn) % len(places)]) for turn in range(len(places))]
        alike[len(places)] += 1
    first = sorted(turns, key=lambda one: one[0])[: max(most, len(texts))]
    return [every[place] for place in sorted(place for _, place in first)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def told(look: Mapping[str, float]) -> str:
    """The metrics of a look in words."""
    words = [f"facts' probability {look['look_facts']:.3f}, at most {look['look_likeliest']:.3f} in a row"]
    if BEHIND in look:
        words.append(f"at most {look[BEHIND]:.3f} behind another beginning")
    words.append(f"{look['look_given']:.0%} of the asked rows given")
    words.append(f"retain rows {look['look_retain']:.2f} of before")
    if FLUENCY in look:
        words.append(f"fluency {look[FLUENCY]:.2f} nats per token")
    if TEXTS in look:
        words.append(f"running texts {-look[TEXTS]:.2f} nats per token less fluent than alternates")
    return ", ".join(words)
