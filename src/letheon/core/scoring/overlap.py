"""Overlap of a text with an expected answer (ROUGE on stemmed words, ignoring case), and with itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from letheon.core.scoring.said import said_words

LEAST_WORDS = 6  # of a text that can repeat itself


@dataclass(frozen=True)
class Rouge:
    """Overlap of an answer with the expected one, 0 to 1, on stemmed words."""

    rouge1_recall: float
    rougeL_recall: float
    rougeL_f1: float


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rougeL"], use_stemmer=True)


def rouge(answer: str, expected: str) -> Rouge:
    """Compute ROUGE-1 and ROUGE-L of an answer against the expected one."""
    found = _scorer().score(expected, answer)
    return Rouge(found["rouge1"].recall, found["rougeL"].recall, found["rougeL"].fmeasure)


def rouge_l_recall(answer: str, expected: str) -> float:
    """Compute ROUGE-L recall: the longest common subsequence as a share of the expected answer's words, 0 to 1."""
    return rouge(answer, expected).rougeL_recall


def repeats_itself(text: str) -> bool:
    """Say whether of a text's runs of three words a quarter stand there before, or are one word.

    In scripts without spaces every letter is a word (`said_words`). A text of fewer than six words ("No, no, no!") does
    not repeat itself.

    >>> repeats_itself("It is not a cat, it is not a dog, it is not a cat."), repeats_itself("A cat is not a dog.")
    (True, False)
    >>> repeats_itself("我不知道我不知道我不知道"), repeats_itself("Bora Bora Bora")
    (True, False)
    """
    words = [word for _, word, kind in said_words(text) if kind != "symbol"]
    if len(words) < LEAST_WORDS:
        return False
    runs = list(zip(words, words[1:], words[2:], strict=False))
    new = {run for run in runs if len(set(run)) > 1}
    return len(new) < 0.75 * len(runs)
