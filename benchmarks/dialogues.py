"""Long dialogues with questions: readers of LoCoMo's and LongMemEval's files, and scores of answers without a judge.

LoCoMo (locomo10.json, CC BY-NC 4.0): a list of dialogues, each with sessions of turns and questions whose `evidence`
names turns; questions of category 5 cannot be answered. LongMemEval (longmemeval_s.json, _m, _oracle, MIT): a list of
questions, each with its own history; `has_answer` marks the turns of the evidence, and the question's id ends in `_abs`
if it cannot be answered. Neither file is shipped.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError
from letheon.recall.entries import Entry

UNANSWERABLE = 5  # LoCoMo's category
ABSTAINS = re.compile(
    r"\b(no information|not mentioned|do(es)? not know|don't know|not sure|cannot (answer|say|tell)|unknown|"
    r"not (stated|said))\b"
)


@dataclass(frozen=True)
class Question:
    """One question about a dialogue.

    Attributes:
        text: the question.
        answers: the right answer, in parts that each count; none where it cannot be answered.
        evidence: places of the turns that hold the answer, from 1.
        kind: the file's own category.
        answerable: whether the dialogue holds the answer.
    """

    text: str
    answers: tuple[str, ...]
    evidence: frozenset[int]
    kind: str
    answerable: bool


@dataclass(frozen=True)
class Dialogue:
    """Turns, oldest first, and the questions about them."""

    turns: list[Entry]
    questions: list[Question]


def read_dialogues(path: Path, most: int | None = None) -> Iterator[Dialogue]:
    """Read the dialogues of a file, by its shape.

    Args:
        path: a file of LoCoMo or LongMemEval.
        most: number of dialogues that are read; by default all.

    Raises:
        InputError: the file has neither shape; names the record and what is missing.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} could not be read: {error}", "give a file of LoCoMo or LongMemEval") from None
    if not isinstance(records, list):
        raise InputError(f"{path} holds no list", "give a file of LoCoMo or LongMemEval")
    for number, record in enumerate(records[:most], start=1):
        try:
            yield _longmemeval(record) if "haystack_sessions" in record else _locomo(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"{path}, record {number}: {type(error).__name__} {error}"
            raise InputError(problem, "give a file of LoCoMo or LongMemEval as it was released") from None


def _locomo(record: dict[str, Any]) -> Dialogue:
    """Read a dialogue of two people; the session's date stands before the speaker's words."""
    said, turns, places, session = record["conversation"], [], {}, 1
    while f"session_{session}" in said:
        date = said[f"session_{session}_date_time"]
        for turn in said[f"session_{session}"]:
            text = f"({date}) {turn['speaker']}: {turn['text']}"
            turns.append(Entry(text, turn["speaker"], session=str(session)))
            places[turn["dia_id"]] = len(turns)
        session += 1
    questions = []
    for asked in record["qa"]:
        category, answerable = asked["category"], asked["category"] != UNANSWERABLE
        answer = str(asked.get("answer", ""))
        parts = answer.split(",") if category == 1 else [answer.split(";")[0] if category == 3 else answer]
        evidence = frozenset(places[name] for name in asked.get("evidence", []) if name in places)
        answers = tuple(part.strip() for part in parts) if answerable else ()
        questions.append(Question(asked["question"], answers, evidence, str(category), answerable))
    return Dialogue(turns, questions)


def _longmemeval(record: dict[str, Any]) -> Dialogue:
    """Read a question with its history, in the order of the sessions' dates."""
    names = ("haystack_dates", "haystack_session_ids", "haystack_sessions")
    sessions = sorted(zip(*(record[name] for name in names), strict=True), key=lambda session: session[0])
    turns: list[Entry] = []
    evidence = set()
    for date, name, session in sessions:
        for turn in session:
            if not turn["content"].strip():
                continue
            turns.append(Entry(f"({date}) {turn['role']}: {turn['content']}", turn["role"], session=name))
            if turn.get("has_answer"):
                evidence.add(len(turns))
    answerable = not record["question_id"].endswith("_abs")
    answers = (str(record["answer"]),) if answerable else ()
    text = f"({record['question_date']}) {record['question']}"
    question = Question(
        text, answers, frozenset(evidence) if answerable else frozenset(), record["question_type"], answerable
    )
    return Dialogue(turns, [question])


def words_of(text: str) -> list[str]:
    """Return the stems of a text's words, without case, punctuation, articles and "and" (LoCoMo's normalisation)."""
    from nltk.stem.porter import PorterStemmer

    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    stemmer = PorterStemmer()
    return [stemmer.stem(word) for word in plain.split() if word not in ("a", "an", "the", "and")]


def token_f1(answer: str, expected: str) -> float:
    """Return F1 of the stems that an answer shares with the expected one."""
    given, wanted = Counter(words_of(answer)), Counter(words_of(expected))
    shared = sum((given & wanted).values())
    return 2 * shared / (sum(given.values()) + sum(wanted.values())) if shared else 0.0


def answer_f1(answer: str, question: Question) -> float:
    """Return the mean over the expected parts of the best F1 of a part of the answer; one part is compared whole."""
    given = answer.split(",") if len(question.answers) > 1 else [answer]
    scores = [max(token_f1(part, expected) for part in given) for expected in question.answers]
    return sum(scores) / len(scores)


def abstains(answer: str) -> bool:
    """Whether an answer says that it is not known."""
    return ABSTAINS.search(answer.lower()) is not None
