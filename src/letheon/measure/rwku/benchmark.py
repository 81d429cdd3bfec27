"""RWKU as a benchmark: every score of one model on one target or many.

Paper:   Jin et al., RWKU: Benchmarking Real-World Knowledge Unlearning for Large Language Models, arXiv 2406.10890.
Differs: the mean over all probes ("All") is weighted by their number, as the paper's columns are. Values are plain
         shares, nats and bits, and a loss is a loss; the paper's tables print a hundred times as much. Min-K% and
         Min-K%++ look at a fifth of the tokens, what the reference code prints. An answer ends at its first line
         break: the code looks for a token that byte-level vocabularies spell otherwise, and never finds it there.

Beside the paper's columns: `safe` ones, in which a broken answer is damage and not forgetting; the share of broken
answers; and recall on the probes that the model before unlearning knew (the authors chose theirs by what LLaMA-3-8B
knows, a smaller model knows few), which is the positive control.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from letheon.audit.measuring.membership import answer_tokens, attack, loss, min_k, min_k_plus_plus, zlib_score
from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.statistics import Estimate
from letheon.forget.request import Request
from letheon.measure.benchmark import NOTHING, Against, Better, Score, Scores
from letheon.measure.common_scores import mean_score, soundness
from letheon.measure.rwku import utility
from letheon.measure.rwku.probes import Answered, answer_probes, question_of
from letheon.measure.rwku.reading import EVALUATED, HUB, Target, read_targets
from letheon.measure.rwku.records import (
    ATTACKS,
    Instruction,
    MultipleChoice,
    Options,
    Probe,
    Reasoning,
    Record,
    Text,
    Trivia,
    Truthful,
)
from letheon.measure.rwku.scoring import exact_match, mc1, mc2, n_gram_entropy, token_f1

LEVELS = {"FB": "forget 1", "QA": "forget 2", "AA": "forget 3"}
NEIGHBOURS = {"Nbr FB": "neighbor 1", "Nbr QA": "neighbor 2"}
# Recall on what was known before, and the score whose rows it is taken from.
KNOWN = {"Known": "All", "Known safe": "All safe", "Nbr Known": "Nbr All"}
KNOWN_FROM = 0.5  # recall from which a probe counts as known before
MIN_K = 0.2  # share of tokens, as the reference code prints it
TESTS = {"loss": "Loss", "zlib": "Zlib", "min_k": "Min-K%", "min_k_plus_plus": "Min-K%++"}

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class RWKU:
    """RWKU's data, read and checked.

    Attributes:
        targets: the people to forget.
        source, split: where they were read from, and which target was asked for.
        rows: at most so many rows of each set of each target, drawn under `seed`, and at level 3 one of each attack
            that was not drawn; 0 takes all.
        corpus: what a method is given to forget (`Target.corpus`).
        corpus_tokens, text_tokens: length of a text to forget, and of one that fluency is measured on; defaults are the
            paper's.
    """

    targets: tuple[Target, ...]
    source: str = ""
    split: str = ""
    rows: int = 0
    seed: int = 0
    corpus: str = "positive"
    corpus_tokens: int = 512
    text_tokens: int = utility.LONG

    name = "rwku"
    columns = ("FB", "QA", "AA", "All", "All safe", "Nbr All", "FM Loss", "RM Loss", "Fac", "Flu")
    plane = ("All safe", "Nbr All")
    trains = False

    def request(self, model: LanguageModel | None = None) -> Request:
        """The forget corpus, running text cut to `corpus_tokens` where a model is given; nothing to keep.

        The task has no retain corpus. Neighbours are never trained on.
        """
        forget = [row for target in self.targets for row in target.corpus(self.corpus)]
        if model is not None:
            forget = [row if row.prompt else _cut(model, row, self.corpus_tokens) for row in forget]
        near = [
            Example(question_of(probe).prompt, probe.answer, name, probe.neighbor or None, neighbour_of=probe.subject)
            for kind in NEIGHBOURS.values()
            for name, probe in self.chosen(kind, Probe).items()
        ]
        return Request(forget=tuple(forget), neighbours=tuple(near), id=f"rwku {self.split}".strip())

    def config(self) -> dict[str, Any]:
        """Return the settings that decide the numbers."""
        return {
            "source": self.source,
            "split": self.split,
            "targets": [target.name for target in self.targets],
            "rows": self.rows,
            "seed": self.seed,
            "corpus": self.corpus,
            "corpus_tokens": self.corpus_tokens,
            "text_tokens": self.text_tokens,
            "counts": {kind: len(self.chosen(kind, Record)) for kind in (*LEVELS.values(), *EVALUATED)},
        }

    def chosen(self, kind: str, form: type[R]) -> dict[str, R]:
        """The records of a set over all targets by their ids, `target/set/number`."""
        records_by_id: dict[str, R] = {}
        for target in self.targets:
            records = target.of(kind, form)
            numbers: Sequence[int] = range(len(records))
            if 0 < self.rows < len(records):
                numbers = random.Random(f"{self.seed}/{target.name}/{kind}").sample(numbers, self.rows)
                numbers = sorted([*numbers, *_of_other_attacks(records, numbers)])
            records_by_id |= {f"{target.name}/{kind}/{number}": records[number] for number in numbers}
        return records_by_id

    def evaluate(self, model: LanguageModel, against: Against = NOTHING) -> Scores:
        """Every score of one model; `against.target` tells what was known before."""
        probes = {kind: self.chosen(kind, Probe) for kind in (*LEVELS.values(), *NEIGHBOURS.values())}
        answered = answer_probes(model, {name: one for rows in probes.values() for name, one in rows.items()}, against)
        scores = [*self._probe_scores(probes, answered), *self._member_scores(model)]
        useful, said = self._utility_scores(model, against)
        return self.relate(Scores((*scores, *useful), {**answered.said, **said}), against)

    def relate(self, scores: Scores, against: Against) -> Scores:
        """Recall on the probes that the model before recalled, from the rows' values."""
        known = [self._known_score(scores, name, against.target) for name in KNOWN]
        return replace(scores, scores=(*scores.without(*KNOWN), *known))

    # The parts

    def _probe_scores(self, probes: Mapping[str, Mapping[str, Probe]], answered: Answered) -> list[Score]:
        forget = {name: one for kind in LEVELS.values() for name, one in probes[kind].items()}
        near = {name: one for kind in NEIGHBOURS.values() for name, one in probes[kind].items()}
        scores = []
        for column, rows in (*((column, probes[kind]) for column, kind in LEVELS.items()), ("All", forget)):
            why = self._why(LEVELS.get(column, ""))
            scores.append(self._score(column, {name: answered.recall[name] for name in rows}, "lower", why))
            scores.append(self._score(f"{column} safe", {name: answered.safe(name) for name in rows}, "lower", why))
        for attack_name in ATTACKS:
            rows = {name: one for name, one in forget.items() if one.attack == attack_name}
            values = {name: answered.recall[name] for name in rows}
            scores.append(self._score(f"AA {attack_name}", values, "lower", "no probe of this attack was asked"))
        for column, rows in (*((column, probes[kind]) for column, kind in NEIGHBOURS.items()), ("Nbr All", near)):
            values = {name: answered.recall[name] for name in rows}
            scores.append(self._score(column, values, "higher", self._why(NEIGHBOURS.get(column, ""))))
        for column, rows in (("Damaged", forget), ("Nbr Damaged", near)):
            values = {name: answered.damaged[name] for name in rows}
            scores.append(self._score(column, values, "lower", "no such probe was asked", share=True))
        return scores

    def _known_score(self, scores: Scores, name: str, before: Scores | None) -> Score:
        now, of = scores[KNOWN[name]], KNOWN[name].removesuffix(" safe")
        items = before[of].items if before is not None else {}
        values = {row: value for row, value in now.items.items() if value is not None}
        known = {row: value for row, value in values.items() if (items.get(row) or 0.0) >= KNOWN_FROM}
        why = "what the model before knew was not given" if before is None else "the model before recalled none of them"
        return self._score(name, known, now.better, why)

    def _member_scores(self, model: LanguageModel) -> list[Score]:
        """Four attacks on both member sets: the mean of each, and how well they tell the two apart."""
        sets = {"FM": self.chosen("members", Text), "RM": self.chosen("retained", Text)}
        distinct = list(dict.fromkeys(row.text for rows in sets.values() for row in rows.values()))
        values = dict(zip(distinct, member_values(model, distinct), strict=True))
        scores = []
        for test, label in TESTS.items():
            of = {name: {row: values[text.text][test] for row, text in rows.items()} for name, rows in sets.items()}
            scores.append(self._score(f"FM {label}", of["FM"], "higher", self._why("members")))
            scores.append(self._score(f"RM {label}", of["RM"], "lower", self._why("retained")))
            auroc = Estimate(None, None, None, 0)
            if of["FM"] and of["RM"]:
                auroc = attack(test, list(of["FM"].values()), list(of["RM"].values()), seed=self.seed).auroc
            scores.append(Score(f"AUC {label}", auroc, "lower", why="" if auroc.n else "it needs both member sets"))
        return scores

    def _utility_scores(self, model: LanguageModel, against: Against) -> tuple[list[Score], dict[str, str]]:
        general, reason = self.chosen("general", MultipleChoice), self.chosen("reason", Reasoning)
        truthful, trivia = self.chosen("truthfulness", Truthful), self.chosen("factuality", Trivia)
        instructions = self.chosen("fluency", Instruction)
        letters = utility.chosen_letters(model, general)
        worked = utility.reasoned(model, reason)
        logp = utility.truthful_logp(model, truthful)
        facts = utility.trivia_answers(model, trivia)
        texts = utility.texts(model, instructions, self.text_tokens)
        right = {name: float(letters[name] == utility.LETTERS[row.answer]) for name, row in general.items()}
        exact = {name: exact_match(worked[name], row.answer) for name, row in reason.items()}
        first = {name: mc1(logp[name], *_sides(row.mc1_targets)) for name, row in truthful.items()}
        mass = {name: mc2(logp[name], *_sides(row.mc2_targets)) for name, row in truthful.items()}
        f1 = {name: token_f1(facts[name], row.answers) for name, row in trivia.items()}
        entropy = {name: n_gram_entropy(text) for name, text in texts.items()}
        prompts = {name: utility.instruction_of(row).prompt for name, row in instructions.items()}
        broken = soundness(prompts, texts, against).damaged
        scores = [
            self._score("Gen", right, "higher", self._why("general"), share=True),
            self._score("Rea", exact, "higher", self._why("reason"), share=True),
            self._score("Tru", first, "higher", self._why("truthfulness"), share=True),
            self._score("Tru MC2", mass, "higher", self._why("truthfulness")),
            self._score("Fac", f1, "higher", self._why("factuality")),
            self._score("Flu", entropy, "higher", self._why("fluency")),
            self._score("Flu Damaged", broken, "lower", self._why("fluency"), share=True),
        ]
        return scores, {**letters, **worked, **facts, **texts}

    def _score(self, name: str, values: Mapping[str, float], better: Better, why: str, *, share: bool = False) -> Score:
        return mean_score(name, values, better, seed=self.seed, share=share, why=why)

    def _why(self, kind: str) -> str:
        """Return why a set has no rows."""
        reasons = [target.missing[kind] for target in self.targets if kind in target.missing]
        return reasons[0] if reasons else "the set is empty"


def member_values(model: LanguageModel, texts: Sequence[str]) -> list[dict[str, float]]:
    """The four membership scores of running texts (no chat template); higher is less like a text trained on.

    Loss in nats per token; zlib: loss over the compressed length in bytes; Min-K% and Min-K%++ over a fifth of the
    tokens, at least one.
    """
    tokens = answer_tokens(model, [Example("", text) for text in texts])
    return [
        {
            "loss": loss(row.logp),
            "zlib": zlib_score(row.logp, text),
            "min_k": min_k(row.logp, MIN_K),
            "min_k_plus_plus": min_k_plus_plus(row.logp, row.mean, row.variance, MIN_K),
        }
        for text, row in zip(texts, tokens, strict=True)
    ]


def _of_other_attacks(records: Sequence[Record], drawn: Sequence[int]) -> list[int]:
    """The first record of each attack that none of the drawn ones is."""
    attacks = [row.attack if isinstance(row, Probe) else "" for row in records]
    missing = dict.fromkeys(attacks).keys() - {attacks[number] for number in drawn}
    return [attacks.index(name) for name in missing]


def _cut(model: LanguageModel, row: Example, tokens: int) -> Example:
    """Running text up to so many tokens."""
    spans = model.encoder().answer(row.answer, end=False)[1][:tokens]
    return replace(row, answer=row.answer[: spans[-1][1]])


def _sides(options: Options) -> tuple[list[str], list[str]]:
    return options.of(1), options.of(0)


def read_rwku(
    source: str | Path = HUB, *, split: str = "", rows: int = 0, seed: int = 0, corpus: str = "positive"
) -> RWKU:
    """Read RWKU.

    Args:
        source: a folder in either of its two layouts, or a hub id.
        split: one target, as `Stephen King`; all of them where it is empty.
        rows: at most so many rows of each set of each target, drawn under `seed`, and at level 3 one of each attack
            that was not drawn; 0 takes all.
        corpus: what a method is given to forget, see `Target.corpus`.

    Raises:
        InputError: the data are not there, or a record is not of its form: file, row, field, what was found.
    """
    if rows < 0:
        raise InputError(f"rows {rows}", "use 0 for all rows, or a positive number")
    return RWKU(tuple(read_targets(source, split, (corpus,))), str(source), split, rows, seed, corpus)
