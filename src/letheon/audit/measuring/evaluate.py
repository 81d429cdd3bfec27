"""The scores of one model on rows: likelihoods from one pass over all answers, and one greedy answer per row.

The answer, its paraphrase and the false answers of a row are scored together as a tree, so each prompt is run once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from letheon.audit.measuring.answer_kinds import FoundFact, recalls
from letheon.audit.measuring.greedy_answers import answer_all, answer_limit, expected_answer, first_half
from letheon.audit.measuring.metrics import probability, truth_ratio
from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import AnswerScore, score_answers
from letheon.core.scoring.memorisation import exact_memorization, extraction_strength
from letheon.core.scoring.overlap import Rouge, rouge
from letheon.core.scoring.spans import UNIT, WORD
from letheon.core.scoring.word_probability import fact_probability
from letheon.core.statistics import Estimate, estimate_mean

# Rows measured together; of each row only a few numbers and the answer stay in memory.
ROWS_AT_ONCE = 256
# Logits of one pass, numbers: 512 MiB in float32 whatever the vocabulary.
LOGITS_AT_ONCE = 1 << 27
# Tokens of one pass. Larger ones are slower on a processor, whose cache their logits leave (4,096: 20 %; 8,192: 60 %).
TOKENS_AT_ONCE = {"cpu": 1024, "gpu": 8192}
# Values that are 0 or 1 for each row; their intervals are those of shares.
SHARES = frozenset({"recall"})


@dataclass(frozen=True)
class RowScores:
    """The scores of one model on one row.

    Attributes:
        example: the row.
        probability: of its answer, exp of the mean log-probability per token, end of turn included.
        value_probability: the same of the tokens that carry the fact; None for a row without a value.
        words_probability: mean probability of the words that carry the facts of running text without a value; None of
            other rows, and where no such words were found.
        exact_memorization, extraction_strength: of its answer; None for an empty one.
        paraphrased: probability of the paraphrased answer, where there is one.
        perturbed: probabilities of the false answers.
        truth_ratio: None where there are no false answers.
        answer: greedy answer; None when none was asked for.
        rouge: its overlap with the expected answer.
        recall: 1 if the greedy answer gives the fact, else 0.
        given: the beginning of running text, which the answer continues; empty for a row with a prompt.
    """

    example: Example | FoundFact
    probability: float
    value_probability: float | None
    exact_memorization: float | None
    extraction_strength: float | None
    paraphrased: float | None
    perturbed: tuple[float, ...]
    truth_ratio: float | None
    answer: str | None = None
    rouge: Rouge | None = None
    recall: float | None = None
    given: str = ""
    words_probability: float | None = None

    @property
    def rouge_l_recall(self) -> float | None:
        """Share of the expected answer's words that the greedy answer gives in order."""
        return self.rouge.rougeL_recall if self.rouge else None


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model on all rows, in their order."""

    rows: list[RowScores]

    def values(self, name: str) -> list[float | None]:
        """Return one value per row: a numeric attribute of `RowScores`."""
        return [getattr(row, name) for row in self.rows]

    def known(self, name: str) -> list[float]:
        """The values of the rows that have one."""
        return [value for value in self.values(name) if value is not None]

    def estimate(self, name: str, seed: int = 0) -> Estimate:
        """Mean over the rows that have the value, with its 95 % interval."""
        return estimate_mean(self.known(name), share=name in SHARES, seed=seed)


def evaluate(
    model: LanguageModel,
    examples: Sequence[Example],
    *,
    answers: bool = True,
    drafts: Sequence[str | None] = (),
    max_new_tokens: int | None = None,
    batch_size: int = 32,
) -> Evaluation:
    """Score rows and let the model answer them.

    Args:
        answers: whether the model answers; without, only likelihoods are measured.
        drafts: for each row a likely answer (a related model's, an earlier one); it saves decoding and changes nothing.
        max_new_tokens: limit of an answer; default twice the longest expected answer and 8 more, at most 200.
        batch_size: rows decoded together.
    """
    limit = max_new_tokens or answer_limit(model, examples)
    rows: list[RowScores] = []
    for part in in_parts(examples):
        guesses = drafts[len(rows) : len(rows) + len(part)] or [None] * len(part)
        rows += _evaluate_part(model, part, guesses, limit if answers else 0, batch_size)
    return Evaluation(rows)


def in_parts(examples: Sequence[Example]) -> list[Sequence[Example]]:
    """Cut rows into the parts that `evaluate` measures one after another; each part's scores depend on it alone."""
    return [examples[start : start + ROWS_AT_ONCE] for start in range(0, len(examples), ROWS_AT_ONCE)]


def _evaluate_part(
    model: LanguageModel, rows: Sequence[Example], drafts: Sequence[str | None], limit: int, batch_size: int
) -> list[RowScores]:
    """Score all answers of some rows in one pass, and decode the rest; a limit of 0 asks for no answers."""
    asked = [answers_of(row) + ([draft] if draft else []) for row, draft in zip(rows, drafts, strict=True)]
    scores = scores_of(model, [(row.prompt, texts) for row, texts in zip(rows, asked, strict=True)])
    answers: Sequence[str | None] = [None] * len(rows)
    if limit:
        candidates = [list(zip(texts, scored, strict=True)) for texts, scored in zip(asked, scores, strict=True)]
        answers = answer_all(model, rows, limit, candidates=candidates, batch_size=batch_size)
    expected, given = [expected_answer(model, row) for row in rows], [first_half(model, row) for row in rows]
    values = [model.encoder().encode(row).value for row in rows]
    words = [_of_words(model, row, score) for row, (score, *_) in zip(rows, scores, strict=True)]
    columns = zip(rows, expected, given, values, scores, answers, words, strict=True)
    return [_row_scores(*row) for row in columns]


def scores_of(model: LanguageModel, questions: Sequence[tuple[str, Sequence[str]]]) -> list[list[AnswerScore]]:
    """Call `score_answers` in passes whose logits fit into memory whatever the vocabulary."""
    if not questions:
        return []
    vocabulary = int(model.base().get_input_embeddings().weight.shape[0])
    most = TOKENS_AT_ONCE["cpu" if model.device.type == "cpu" else "gpu"]
    return score_answers(model, questions, tokens_per_batch=max(256, min(most, LOGITS_AT_ONCE // vocabulary)))


def bare(examples: Sequence[Example]) -> list[Example]:
    """Return rows without their paraphrased and false answers, where nobody reads the scores of these."""
    return [replace(row, perturbed_answers=(), paraphrased_answer=None) for row in examples]


def answers_of(example: Example) -> list[str]:
    """Return the answers that are scored for a row: its own, the paraphrased one if there is one, the false ones."""
    paraphrased = [example.paraphrased_answer] if example.paraphrased_answer else []
    return [example.answer, *paraphrased, *example.perturbed_answers]


def _row_scores(
    example: Example,
    expected: str,
    given: str,
    value: Sequence[bool],
    scores: Sequence[AnswerScore],
    text: str | None,
    words: float | None,
) -> RowScores:
    own, ends = scores[0], bool(example.prompt)
    offset = 2 if example.paraphrased_answer else 1
    paraphrased = scores[1].probability if example.paraphrased_answer else None
    perturbed = tuple(score.probability for score in scores[offset : len(answers_of(example))])
    right = own.probability if paraphrased is None else paraphrased
    return RowScores(
        example=example,
        probability=own.probability,
        value_probability=_of_value(own, value),
        exact_memorization=exact_memorization(own.correct, ends=ends),
        extraction_strength=extraction_strength(own.correct, ends=ends),
        paraphrased=paraphrased,
        perturbed=perturbed,
        truth_ratio=truth_ratio(right, perturbed) if perturbed else None,
        answer=text,
        rouge=None if text is None else rouge(text, expected),
        recall=None if text is None else float(recalls(text, example, expected)),
        given=given,
        words_probability=words,
    )


def _of_value(score: AnswerScore, value: Sequence[bool]) -> float | None:
    """Return the probability of the tokens that carry the fact; None where they are not known."""
    mask = np.array(value, dtype=bool)[-len(score.logp) :]
    return probability(score.logp[mask]) if mask.any() else None


def _of_words(model: LanguageModel, row: Example, score: AnswerScore) -> float | None:
    """Return the mean probability of the words that carry the facts of running text; None of other rows."""
    if row.prompt or not isinstance(row, FoundFact) or not row.fact:
        return None
    ids, spans = model.encoder().answer(row.answer, end=False)
    facts, found = set(row.fact.split()), [*UNIT.finditer(row.answer), *WORD.finditer(row.answer)]
    places = [one.span() for one in found if one.group() in facts]
    inside = [any(begin < stop and end > start for start, stop in places) for begin, end in spans]
    scored = len(score.logp)
    fact = torch.tensor(inside[-scored:])
    if not scored or not fact.any():
        return None
    return fact_probability(model.tokenizer, torch.tensor(ids[-scored:]), torch.from_numpy(score.logp), fact)
