"""The length rule of each compression level, as the subject is told it and as the judge applies it.

Paper:   Baxi, Separating Constraint Compliance from Semantic Accuracy (CDCT), arXiv 2512.17920.
Source:  rb125/cdct_framework: at level .5 its subject may elaborate while its judge wants under 50 words. `reference`
         keeps that mismatch; every other arm has one rule for both.

Level 0 is the most compressed text, level 1 the whole one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from letheon.core.errors import InputError, nearest
from letheon.measure.asking.templates import Template

Arm = Literal["reference", "matched", "minimal", "no_rule"]
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
FRAME = Template(
    "compression framed",
    "1",
    "Your understanding is tested with limited information.\nINFORMATION: {text}\n{rule}\nQUESTION: "
    "{question}\nANSWER:",
)
PLAIN = Template("compression minimal", "1", "{text}\n{rule}\n{question}")


@dataclass(frozen=True)
class Rule:
    """What an answer may contain.

    Attributes:
        words: largest number of words; None for no limit.
        sentences: largest number of sentences; None for no limit.
        only_given: whether nothing may be added to the text.
    """

    words: int | None = None
    sentences: int | None = None
    only_given: bool = False

    def instruction(self) -> str:
        """Return the rule as the subject reads it."""
        if self.sentences is not None:
            most = f"at most {self.sentences} sentences" + (f" and under {self.words} words" if self.words else "")
            return f"Use ONLY the information above: {most}. Add nothing."
        if self.words is not None:
            return f"Use ONLY these words, do not elaborate, and stay under {self.words} words."
        return "Give a clear explanation. You may elaborate."


BRIEF, SHORT, SHORT_TOLD, FREE = Rule(20, None, True), Rule(50, 3, True), Rule(None, 3, True), Rule()


def judge_rule(level: float) -> Rule:
    """Return the rule by which a level's answers are judged."""
    if level < 0.3:
        return BRIEF
    return SHORT if level < 0.6 else FREE


def subject_rule(level: float, arm: Arm) -> Rule | None:
    """Return the rule that the subject is told; None in the arm without a rule."""
    if arm == "no_rule":
        return None
    if arm != "reference":
        return judge_rule(level)
    ratio = 1 - level
    if ratio > 0.8:
        return BRIEF
    return SHORT_TOLD if ratio > 0.5 else FREE  # at level .5 the ratio is .5, so that the subject may elaborate


def mismatches(arm: Arm) -> list[float]:
    """Return the levels at which subject and judge have different rules."""
    return [level for level in LEVELS if subject_rule(level, arm) != judge_rule(level)]


def template(arm: Arm) -> Template:
    """Return the prompt of an arm: the paper's framing, or the text, the rule and the question alone."""
    return FRAME if arm in ("reference", "matched") else PLAIN


def prompt(level: float, arm: Arm, text: str, question: str) -> str:
    """Return the whole prompt."""
    rule = subject_rule(level, arm)
    filled = template(arm).fill(text=text, rule=rule.instruction() if rule else "", question=question)
    return filled.replace("\n\n", "\n")


def read_arm(text: str) -> Arm:
    """Check the name of an arm.

    Raises:
        InputError: there is no such arm.
    """
    if text not in get_args(Arm):
        raise InputError(f"arm={text}", nearest(text, list(get_args(Arm))))
    return text  # type: ignore[return-value]  # checked above
