"""Three judges by rule that look at different things: a graded rubric, hard checks, and overlaps of words.

Source:  the rubric's axes are those of rb125/cdct_framework: compliance (length and scope), accuracy (whatever the
         length), completeness (does it answer). The hard checks pass or fail as the verifiers of IFEval do.
Differs: rules in place of language models. They share the limits of length, which are given, and no other evidence, so
         their agreement and Fleiss' kappa speak of different rules and not of one rule at several strengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from letheon.core.scoring.overlap import rouge
from letheon.core.scoring.refusals import refuses
from letheon.measure.compression_decay.judging import (
    WORD,
    accuracy,
    completeness,
    compliance,
    content_stems,
    sentence_count,
    stem,
    word_count,
)
from letheon.measure.compression_decay.rules import Rule

Verdict = dict[str, float | None]


@dataclass(frozen=True)
class Given:
    """What a judge knows of a cell.

    Attributes:
        text, question: what the subject got.
        rule: the rule to judge by.
        keywords: what a right answer mentions.
    """

    text: str
    question: str
    rule: Rule
    keywords: tuple[str, ...]


def rubric(answer: str, given: Given) -> Verdict:
    """Grade: lengths by the rubric's breakpoints times the share of content words of the text; keywords; the topic."""
    return {
        "CC": compliance(answer, given.text, given.rule),
        "SA": accuracy(answer, given.keywords),
        "FC": completeness(answer, given.question),
    }


def verifier(answer: str, given: Given) -> Verdict:
    """Pass or fail: every limit holds and no content word is new; half of the keywords stand literally; it is finished.

    A finished answer ends in a full stop, a question or an exclamation mark, and does not say that it does not know.
    """
    rule, said = given.rule, answer.casefold()
    limits = ((word_count(answer), rule.words), (sentence_count(answer), rule.sentences))
    known = {*content_stems(given.text), *content_stems(given.question)}
    holds = all(limit is None or size <= limit for size, limit in limits)
    holds &= not rule.only_given or set(content_stems(answer)) <= known
    literal = [keyword.casefold() in said for keyword in given.keywords]
    finished = answer.rstrip().endswith((".", "!", "?")) and not refuses(answer)
    return {
        "CC": float(holds and bool(WORD.search(answer))),
        "SA": float(sum(literal) * 2 >= len(literal)) if literal else None,
        "FC": float(finished and bool(WORD.search(answer))),
    }


def overlap(answer: str, given: Given) -> Verdict:
    """Compare strings: the share within the limit times the share of word pairs copied; letters of keywords; ROUGE.

    Accuracy is the share of the keywords' letter triples that the answer has, whatever the form of the words.
    Completeness is ROUGE-1 recall of the question.
    """
    rule, words = given.rule, _words(answer)
    if not words:
        return {"CC": 0.0, "SA": 0.0, "FC": 0.0}
    within = min(1.0, rule.words / len(words)) if rule.words else 1.0
    pairs, copied = list(pairwise(words)), set(pairwise(_words(given.text)))
    scope = sum(pair in copied for pair in pairs) / len(pairs) if pairs and rule.only_given else 1.0
    wanted, said = (_triples(text) for text in (" ".join(given.keywords), answer))
    return {
        "CC": within * scope,
        "SA": len(wanted & said) / len(wanted) if wanted else None,
        "FC": rouge(answer, given.question).rouge1_recall,
    }


def _triples(text: str) -> set[str]:
    return {word[i : i + 3] for word in WORD.findall(text.casefold()) for i in range(max(1, len(word) - 2))}


def _words(text: str) -> list[str]:
    return [stem(word) for word in WORD.findall(text)]


JURY: dict[str, Callable[[str, Given], Verdict]] = {"rubric": rubric, "verifier": verifier, "overlap": overlap}


def verdicts(answer: str, given: Given) -> Sequence[Verdict]:
    """Return the verdicts of the whole jury, in its order."""
    return [judge(answer, given) for judge in JURY.values()]
