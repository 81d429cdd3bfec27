"""What one model knows of some rows: likelihoods from one pass over all answers, and one greedy answer a row.

The answer, its paraphrase and the false answers of a row are scored together as a tree, so each prompt is run once.
Running text (a row without a prompt) is continued from its first half, and judged by the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from letheon.audit.answers import recalls
from letheon.audit.metrics import Rouge, exact_memorization, extraction_strength, rouge, truth_ratio
from letheon.core.examples import Example
from letheon.core.generation import generate
from letheon.core.likelihood import AnswerScore, score_answers
from letheon.core.models import LanguageModel
from letheon.core.statistics import Estimate, estimate_mean

# Rows handled between two reports of progress; what is kept of each is a few numbers and its answer.
ROWS_AT_ONCE = 256
# Logits of one pass, numbers: 512 MiB in float32 whatever the vocabulary.
LOGITS_AT_ONCE = 1 << 27
MOST_NEW_TOKENS = 200
# Values that are 0 or 1 for each row; their intervals are those of shares.
SHARES = frozenset({"recall"})

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class RowScores:
    """One model on one row.

    Attributes:
        example: the row.
        probability: of its answer, exp of the mean log-probability per token, end of turn included.
        exact_memorization, extraction_strength: of its answer; None for an empty one.
        paraphrased: probability of the paraphrased answer, where there is one.
        perturbed: probabilities of the false answers.
        truth_ratio: None where there are no false answers.
        answer: greedy answer; None when none was asked for.
        rouge: its overlap with the expected answer.
        recall: 1 if the greedy answer gives the fact, else 0.
    """

    example: Example
    probability: float
    exact_memorization: float | None
    extraction_strength: float | None
    paraphrased: float | None
    perturbed: tuple[float, ...]
    truth_ratio: float | None
    answer: str | None = None
    rouge: Rouge | None = None
    recall: float | None = None

    @property
    def rouge_l_recall(self) -> float | None:
        """Share of the expected answer's words that the greedy answer gives in order."""
        return self.rouge.rougeL_recall if self.rouge else None


@dataclass(frozen=True)
class Evaluation:
    """One model on all rows, in their order."""

    rows: list[RowScores]

    def values(self, name: str) -> list[float | None]:
        """One value a row: a numeric attribute of `RowScores`."""
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
    max_new_tokens: int | None = None,
    batch_size: int = 32,
    report: Report | None = None,
) -> Evaluation:
    """Score rows and let the model answer them.

    Args:
        answers: whether to generate; without, only likelihoods are measured.
        max_new_tokens: limit of an answer; default twice the longest expected answer and 8 more, at most 200.
        batch_size: rows decoded together.
        report: called with rows done and rows in all.
    """
    limit = max_new_tokens or answer_limit(model, examples)
    rows: list[RowScores] = []
    for part in _parts(examples):
        likelihoods = scores_of(model, [(row.prompt, answers_of(row)) for row in part])
        texts = answer_all(model, part, limit, batch_size) if answers else [None] * len(part)
        expected = [expected_answer(model, row) for row in part]
        rows += [_row_scores(*row) for row in zip(part, expected, likelihoods, texts, strict=True)]
        if report:
            report(len(rows), len(examples))
    return Evaluation(rows)


def _parts(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), ROWS_AT_ONCE):
        yield examples[start : start + ROWS_AT_ONCE]


def scores_of(model: LanguageModel, questions: Sequence[tuple[str, Sequence[str]]]) -> list[list[AnswerScore]]:
    """`score_answers` in passes whose logits fit into memory whatever the vocabulary."""
    vocabulary = int(model.base().get_input_embeddings().weight.shape[0])
    budget = max(256, min(4096, LOGITS_AT_ONCE // vocabulary))
    return score_answers(model, questions, tokens_per_batch=budget) if questions else []


def answers_of(example: Example) -> list[str]:
    """What is scored for a row: its answer, the paraphrased one if there is one, the false ones."""
    paraphrased = [example.paraphrased_answer] if example.paraphrased_answer else []
    return [example.answer, *paraphrased, *example.perturbed_answers]


def answer_limit(model: LanguageModel, examples: Sequence[Example]) -> int:
    """Room for an answer: twice the longest expected one and 8 tokens more, at most 200."""
    encoder = model.encoder()
    longest = max((len(encoder.answer(row.answer)[0]) for row in examples), default=0)
    return min(2 * longest + 8, MOST_NEW_TOKENS)


def answer_all(
    model: LanguageModel, examples: Sequence[Example], max_new_tokens: int, batch_size: int = 32
) -> list[str]:
    """Greedy answers; running text is continued from its first half, which is not part of what is returned."""
    if not examples:
        return []
    encoder = model.encoder()
    given = [_given(model, row) for row in examples]
    starts = [tuple(encoder.answer(text, end=False)[0]) if text else () for text in given]
    prompts = [row.prompt for row in examples]
    texts = generate(model, prompts, prefixes=starts, max_new_tokens=max_new_tokens, batch_size=batch_size)
    return [text[len(start) :] for text, start in zip(texts, given, strict=True)]


def expected_answer(model: LanguageModel, example: Example) -> str:
    """What a greedy answer is compared with: the answer, or what follows the first half of running text."""
    return example.answer[len(_given(model, example)) :] or example.answer


def _given(model: LanguageModel, example: Example) -> str:
    """The beginning of an answer that is not asked for: the first half of the tokens of running text."""
    if example.prompt:
        return ""
    spans = model.encoder().answer(example.answer, end=False)[1]
    return example.answer[: spans[(len(spans) + 1) // 2 - 1][1]] if spans else ""


def _row_scores(example: Example, expected: str, scores: Sequence[AnswerScore], text: str | None) -> RowScores:
    own, ends = scores[0], bool(example.prompt)
    offset = 2 if example.paraphrased_answer else 1
    paraphrased = scores[1].probability if example.paraphrased_answer else None
    perturbed = tuple(score.probability for score in scores[offset:])
    right = own.probability if paraphrased is None else paraphrased
    return RowScores(
        example=example,
        probability=own.probability,
        exact_memorization=exact_memorization(own.correct, ends=ends),
        extraction_strength=extraction_strength(own.correct, ends=ends),
        paraphrased=paraphrased,
        perturbed=perturbed,
        truth_ratio=truth_ratio(right, perturbed) if perturbed else None,
        answer=text,
        rouge=None if text is None else rouge(text, expected),
        recall=None if text is None else float(recalls(text, example, expected)),
    )
