"""Overlap of a text with an expected answer: ROUGE on stemmed words, ignoring case."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any


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
