"""Locate the tokens of an answer that carry the fact, and estimate their probability if the fact were unknown.

The method is our own. Answers begin with the subject's name and common words; only a few tokens carry the fact. A row
may give its `value`. Otherwise subject contrast locates it: the tokens whose log-probability falls by more than
`threshold` nats when invented names replace the subject in question and answer. The first token of a value decides the
others, so the match is extended to the end of its phrase. The same replacement gives the control level: the value's
probability under unknown subjects.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import AnswerScore, score_answers

logger = logging.getLogger("letheon")

ROWS_AT_ONCE = 512

# Invented names that differ from all names in the demo and the tests.
UNKNOWN_SUBJECTS = (
    "Torvik Aldane",
    "Maribel Osthwaite",
    "Jandro Pellimore",
    "Keziah Brunnholt",
    "Emeric Valstrand",
    "Odalys Trevenny",
)
# Signs that stand on, under or beside a letter: vowels of Hindi, Thai or Arabic, accents of their own.
MARKS = "".join(sign for sign in map(chr, range(0x300, 0x10000)) if unicodedata.category(sign).startswith("M"))
WORD = re.compile(rf"\w[\w{MARKS}'’-]*|[^\w\s]")
# What is one thing though signs divide it: an address, a path, a number or a time of several parts.
BETWEEN = r"\s,;()<>\[\]|\"“”«»"
UNIT = re.compile(
    rf"(?:(?<=[{BETWEEN}])|^)[^{BETWEEN}]*\w(?:@|:?//?)\w[^{BETWEEN}]*\w"
    r"|(?<![\w/])/\w+(?:/\w+)+|(?<!\d)\d+(?:[.,:]\d+)+|(?<![\w.-])\w[\w-]*(?:\.\w[\w-]*){2,}"
)
WORD_OR_UNIT = re.compile(f"{UNIT.pattern}|{WORD.pattern}")
# What no value begins within: a number of two parts or of thousands, or with a minus, an address of mail or of the web.
# A date's last part may be a value.
ONE_PIECE = re.compile(
    r"(?<!\d)(?<!\d[.,:/-])(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+[.,:](?!(?:1[5-9]|20)\d\d(?!\d))\d+)(?![.,:/-]?\d)"
    r"|(?<=[ (])[-\u2212]\d+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+|https?://[!-~]+"
)
# Words that join phrases; a value ends before them.
JOINING = frozenset(
    WORD.findall("a an and as at but by for from in into is of on or that the to was were when where which who with")
)


def find_values(model: LanguageModel, examples: Sequence[Example], threshold: float = 1.0) -> list[Example]:
    """Fill in missing values by subject contrast.

    If a row has no subject, or its contrast finds no token, its value runs from the first to the last word of the
    answer that does not occur in the question. The number of such rows is logged.
    """
    need = [i for i, row in enumerate(examples) if row.value is None]
    contrast = [i for i in need if names_its_subject(examples[i])]
    found = dict(zip(contrast, _by_contrast(model, [examples[i] for i in contrast], threshold), strict=True))
    fallback = [i for i in need if not found.get(i)]
    if fallback:
        logger.warning(
            "%d of %d rows have no subject to contrast: the words that the question does not give count as the value",
            len(fallback),
            len(examples),
        )
    filled = list(examples)
    for i in need:
        filled[i] = replace(examples[i], value=found.get(i) or _new_words(examples[i]))
    return filled


def value_probability(model: LanguageModel, examples: Sequence[Example]) -> list[float | None]:
    """Compute exp of the mean log-probability of each row's value tokens; None for a row without a value."""
    rows = [row for row in examples if row.value is not None]
    found = iter(_value_probabilities(model, rows))
    return [next(found) if row.value is not None else None for row in examples]


def control_probability(model: LanguageModel, examples: Sequence[Example]) -> list[float | None]:
    """Compute the control level: the value's probability under unknown subjects (geometric mean over names).

    It is None if a row has no value or no subject, or if the value contains the subject.
    """
    rows = [row for row in examples if row.value is not None and names_its_subject(row) and _survives(row)]
    replaced = [with_subject(row, name) for row in rows for name in UNKNOWN_SUBJECTS]
    logs = np.log(_value_probabilities(model, replaced)).reshape(len(rows), len(UNKNOWN_SUBJECTS)).mean(1)
    level = dict(zip(map(id, rows), np.exp(logs).tolist(), strict=True))
    return [level.get(id(row)) for row in examples]


def names_its_subject(row: Example) -> bool:
    """Whether the row's question contains its subject, so that another can stand in its place."""
    return bool(row.subject) and (row.subject or "") in row.prompt


def _survives(row: Example) -> bool:
    """Return whether the value is still in the answer after the subject is replaced."""
    value, replaced = row.value or "", with_subject(replace(row, value=None), UNKNOWN_SUBJECTS[0])
    return (row.subject or "") not in value and value in replaced.answer


def with_subject(row: Example, name: str) -> Example:
    """The row about another subject, in question, answer and false answers."""
    subject = row.subject or ""
    return replace(
        row,
        prompt=row.prompt.replace(subject, name),
        answer=row.answer.replace(subject, name),
        perturbed_answers=tuple(text.replace(subject, name) for text in row.perturbed_answers),
        subject=name,
    )


def _scores(model: LanguageModel, rows: Sequence[Example]) -> list[AnswerScore]:
    """Score rows in parts, so that memory does not grow with their number."""
    parts = [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
    scored = (score_answers(model, [(row.prompt, [row.answer]) for row in part]) for part in parts)
    return [found[0] for part in scored for found in part]


def _value_probabilities(model: LanguageModel, rows: Sequence[Example]) -> list[float]:
    encoder = model.encoder()
    probabilities = []
    for row, scores in zip(rows, _scores(model, rows), strict=True):
        mask = np.array(encoder.encode(row).value)[-len(scores.logp) :]
        probabilities.append(float(np.exp(scores.logp[mask].mean())))
    return probabilities


def _by_contrast(model: LanguageModel, rows: Sequence[Example], threshold: float) -> list[str | None]:
    """Find each row's value by subject contrast; None if no token depends on the subject."""
    known = _scores(model, rows)
    unknown = _scores(model, [with_subject(row, name) for row in rows for name in UNKNOWN_SUBJECTS])
    width = len(UNKNOWN_SUBJECTS)
    found: list[str | None] = []
    for i, row in enumerate(rows):
        spans = _token_spans(model, row)
        levels: list[dict[tuple[int, int], float]] = []
        for name, scores in zip(UNKNOWN_SUBJECTS, unknown[i * width : (i + 1) * width], strict=True):
            other = _token_spans(model, with_subject(row, name))
            levels.append({_from_end(row, name, span): lp for span, lp in zip(other, scores.logp, strict=True)})
        drops = []
        for span, logp in zip(spans, known[i].logp, strict=True):
            key = (len(row.answer) - span[0], len(row.answer) - span[1])
            controls = [level[key] for level in levels if key in level]
            inside = _inside_subject(row, span)
            drops.append(logp - np.mean(controls) if controls and not inside and span[1] > span[0] else 0.0)
        chosen = [span for span, drop in zip(spans, drops, strict=True) if drop > threshold]
        found.append(_phrase(row.answer, chosen) if chosen else None)
    return found


def _token_spans(model: LanguageModel, row: Example) -> list[tuple[int, int]]:
    _, spans = model.encoder().answer(row.answer, end=bool(row.prompt))
    size = len(row.answer)
    return [(min(start, size), min(stop, size)) for start, stop in spans]


def _from_end(row: Example, name: str, span: tuple[int, int]) -> tuple[int, int]:
    """Return a token's span in the replaced answer, counted from the end.

    It equals the span in the original answer for tokens after the last mention of the subject, where values are.
    """
    size = len(row.answer.replace(row.subject or "", name))
    return size - span[0], size - span[1]


def _inside_subject(row: Example, span: tuple[int, int]) -> bool:
    places = [match.span() for match in re.finditer(re.escape(row.subject or ""), row.answer)]
    return any(start < span[1] and stop > span[0] for start, stop in places)


def _phrase(answer: str, spans: Sequence[tuple[int, int]]) -> str:
    """Extend spans from the first one's word to the end of the last one's phrase (punctuation or a joining word)."""
    first, last = min(start for start, _ in spans), max(start for start, _ in spans)
    words = list(WORD.finditer(answer))
    begin = next((w.start() for w in words if w.end() > first + (answer[first : first + 1] == " ")), first)
    pieces = (piece.span() for piece in ONE_PIECE.finditer(answer))
    begin = stop = next((start for start, end in pieces if start < begin < end), begin)
    for word in words:
        if word.end() <= last + 1:
            stop = max(stop, word.end()) if word.end() > begin else stop
            continue
        ends = _is_sign(word) or (word.group() in JOINING and word.start() > last + 1)
        if ends and stop > begin:
            break
        stop = word.end()
    return answer[begin:stop]


def _is_sign(word: re.Match[str]) -> bool:
    """Whether a match of `WORD` is punctuation; the sign within 1.2, 3:16-18 or ann@mail.org is none."""
    before, behind = word.string[: word.start()][-1:], word.string[word.end() :][:1]
    within = word.group().isascii() and before.isalnum() and behind.isalnum()
    return not word.group()[0].isalnum() and not within


def _new_words(row: Example) -> str:
    """Return the answer from its first to its last word that is not in the question; the whole answer if none."""
    given = {word.lower() for word in WORD_OR_UNIT.findall(row.prompt)}
    words = [word for word in WORD_OR_UNIT.finditer(row.answer) if any(map(str.isalnum, word.group()))]
    new = [word for word in words if word.group().lower() not in given]
    new = [word for word in new if word.group().lower() not in JOINING] or new
    return row.answer[new[0].start() : new[-1].end()] if new else row.answer
