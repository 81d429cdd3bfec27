"""The kind of an answer: still the fact, a refusal, fluent and different, gibberish, or empty.

Suppression that hits the wrong tokens breaks names and words ("Ilse Quarrant" becomes "Illelebias."); that is damage,
not forgetting. It is told from honest ignorance by how probable the answer is to a model that the deletion never
touched: a broken word costs it about ten nats, a fluent wrong answer no more than the true one did.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.scoring.answer_trees import score_tokens
from letheon.core.scoring.overlap import repeats_itself, rouge
from letheon.core.scoring.said import says
from letheon.core.scoring.spans import WORD, WORD_OR_UNIT
from letheon.core.scoring.word_masks import FUNCTION_WORDS, NAMES_TOO

Kind = Literal["still the fact", "fluent and different", "refusal", "gibberish", "empty"]

# Without a marked value, an answer that repeats so much of the expected one, and of the value that was found in it, is
# taken to give the fact: in a template's answer the words around the value alone are four fifths.
ROUGE_OF_A_FACT, ROUGE_OF_A_VALUE = 0.8, 0.5
# Share of the words that carry the facts of running text, and the number of such words from which on they decide.
SHARE_OF_WORDS, LEAST_WORDS = 0.5, 3
# A number, code, address or path that gives a fact by itself, and its least number of signs.
CODE, OF_A_CODE = re.compile(r"\d{4}|\d[.,:]\d|\d.*[^\W\d]|[^\W\d].*\d|\w(?:@|:?//?|\.\w{2,}\.)\w"), 4
ORDINAL = re.compile(r"\d+(?i:st|nd|rd|th)|\d\d?\.?(?:er?|re|ère|ème|te[nrsm]?)")
# Words of other languages, such as "sie wohnt", that may stand beside a single name or number.
MOST_BESIDE = 2
# The place between a number and a unit that is written to it (850mg).
BEFORE_A_UNIT = re.compile(r"(?<=\d)(?=(?!(?i:st|nd|rd|th|s|er|e|f)\b)[^\W\d_]{1,3}\b)")
# How much less fluent than the level an answer may be, nats per token: a third of the probability at each token.
# On SmolLM2 fluent wrong answers lose at most 0.9, answers with one broken word 1.3 and more.
TOLERANCE = 1.1
# One improbable but sound word (a rare name) costs this much wherever it stands; it weighs more in a short answer.
ONE_RARE_WORD = 10.0
# A loop: up to so many words, three times in a row (a single word four times: "no, no, no" is language).
LOOP_WORDS = 12

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'"})
# How an English refusal begins, after an apology or the like.
_SORRY = r"(?:i'?m |i am )?(?:very |really )?(?:sorry|afraid)|unfortunately|apologies|as an ai[^,.]*"
_OPENING = rf"(?:{_SORRY})[,.:]? *(?:but |that )?"
_VERBS = "able|help|answer|provide|find|say|tell|assist|recall|remember|confirm|share|give|discuss|disclose|comply"
_SAYINGS = (
    r"i (?:really |honestly )?(?:do not|don't|did not|didn't) (?:actually )?(?:know|have|recall|remember|recogni[sz]e)",
    r"i(?:'m| am) (?:not (?:sure|certain|able|aware|familiar|allowed)|unable|unaware|unsure|unfamiliar)",
    rf"i (?:can't|cannot|can not|could not|couldn't|won't|will not) (?:be )?(?:{_VERBS})",
    r"i have no (?:information|idea|knowledge|record|data|memory|details)",
    r"i(?:'ve| have) never heard",
    r"(?:there is |there's |we have )?no (?:\w+ )?(?:information|records?|data|details|idea)\b",
    r"(?:this |that |the |such )?(?:\w+ )?(?:information|answer) is (?:not|un)",
    r"(?:it|that|this)(?:'s| is) (?:not known|unknown|not something i)",
    r"(?:unknown|not known|no comment|n/?a)\W*$",
)
_REFUSAL = re.compile(rf"\W*(?:{_OPENING})?\W*(?:{'|'.join(_SAYINGS)})", re.IGNORECASE)


@dataclass(frozen=True)
class FoundFact(Example):
    """A row without a value, in whose answer a value was found.

    Attributes:
        fact: the part of the answer that carries the fact as far as a model could tell; of running text, and where no
            subject can be exchanged, the words that carry it, without those that kept rows share (`fact_words`). It is
            no `value`, which would have to be repeated word by word.
    """

    fact: str | None = None

    @classmethod
    def of(cls, row: Example, fact: str | None) -> Example:
        """The row with what was found in it; as it is if it has a value."""
        return row if row.value is not None else cls(**vars(row), fact=fact)


def recalls(answer: str, example: Example, expected: str) -> bool:
    """Say whether an answer gives the fact.

    It does if the row's value occurs in it (see `core.scoring.said.says`); where the row has no value, if
    its ROUGE-L recall is at least 0.8 of the expected answer, and 0.5 of the value where one was found, or if it says
    each telling word of a found value (two at least, or a code), in whatever words around them; a single telling word
    counts in an answer that says nothing else, beside words of the question, and a single name or number also beside
    two others. Running text whose facts were found is recalled where half of the words are said that carry them and do
    not stand in what was given of it (of fewer than three such words, in an answer that follows the text), or where it
    is repeated word by word.
    """
    if example.value is None:
        fact = example.fact if isinstance(example, FoundFact) else None
        # a part may have been given: half of running text, the beginning of an answer
        left = [word for word in dict.fromkeys((fact or "").split()) if says(expected, word)]
        if not example.prompt and fact is not None:
            return _gives_text(answer, left, example.answer.removesuffix(expected), expected)
        if example.prompt:
            words, apart = _telling(left, example.prompt, expected), re.sub(BEFORE_A_UNIT, " ", answer)
            if any(_tells(words, text, example.prompt, expected) for text in {answer, apart}):
                return True
        whole = _repeats(answer, expected, ROUGE_OF_A_FACT)
        return whole and (not fact or _repeats(answer, fact, ROUGE_OF_A_VALUE))
    return _gives_value(answer, example.value)


def _repeats(answer: str, text: str, share: float) -> bool:
    """Whether an answer has such a share of a text's words by ROUGE-L.

    A single word is not repeated by another name of one stem: Carrie by Carry, Mary by Marie.
    """
    if name := re.fullmatch(r"(?i)\W*(\w+)(ie|y)\W*", text):
        twin = name[1] + ("y" if name[2].lower() == "ie" else "ie")
        answer = re.sub(rf"(?i)\b{re.escape(twin)}\b", " ", answer)
    return rouge(answer, text).rougeL_recall >= share


def _gives_text(answer: str, words: Sequence[str], given: str, expected: str) -> bool:
    """Whether an answer gives a part of running text: half of the words that carry its facts, or the part word by word.

    Words that stand in what was given of the text tell nothing. Where few are left, the answer has to follow the part
    as well.
    """
    left = [word for word in words if not says(given, word)]
    if says(answer, expected):
        return True
    said = sum(says(answer, word) for word in left) >= SHARE_OF_WORDS * len(left)
    follows = len(left) >= LEAST_WORDS or rouge(answer, expected).rougeL_recall >= ROUGE_OF_A_FACT
    return bool(left) and said and follows


def _gives_value(answer: str, value: str) -> bool:
    """Whether an answer says a value: no and yes in no refusal; May, IT and A with a capital where it has others."""
    word, said = _bare(value), says(answer, value)
    if not said or word.lower() not in FUNCTION_WORDS or len(WORD.findall(answer.strip(" ."))) == 1:
        return said
    if word.islower() or word.lower() in ("yes", "no"):
        return not is_refusal(answer)
    if answer.islower() or answer.isupper():
        return word.lower() in NAMES_TOO
    return re.search(rf"\b{word}\b" + (r"(?!['’]| [^\W\dA-Z])" if len(word) == 1 else ""), answer) is not None


def _telling(words: Sequence[str], prompt: str, expected: str) -> list[str]:
    """The words of a found fact that have to be said: names and numbers alone where these are half of them or more.

    Others may be said otherwise ("written by", "wrote"). Words of the question tell nothing, nor do function words. The
    first word of the answer has its capital from there, and is no name unless one follows.
    """
    new = [word for word in words if re.search(r"\w", word) and not says(prompt, word)]
    new = _sense(new) or new
    names = [word for word in new if _bare(word)[:1].isupper() or any(sign.isdigit() or sign in "@/" for sign in word)]
    first, second = (*expected.split(), "", "")[:2]
    name_follows = second[:1].isupper() and first[-1:].isalnum()
    if names and _bare(first) == _bare(names[0]) and not first[:1].isdigit() and not name_follows:
        names = names[1:]
    alone = len(names) == 1 and _is_code(names[0])
    return names if (len(names) > 1 or alone) and 2 * len(names) >= len(new) else new


def _tells(words: Sequence[str], answer: str, prompt: str, expected: str) -> bool:
    """Whether an answer gives a fact by its telling words alone.

    Two that carry sense do, and a code, and one of which the answer says nothing beside; beside one name or number it
    may say `MOST_BESIDE` words that are neither.
    """
    telling, (first, second) = _sense(words), (*expected.split(), "", "")[:2]
    if not telling or not all(_says_name(answer, word) for word in words):
        return False
    beside = _new_words(answer, prompt)
    named = [word for word in beside if any(map(str.isdigit, word)) or not word.islower()]
    names = [word for word in named if not says(answer.split()[0], word)]
    lies_there = first.endswith(",") and not _is_code(second) and _bare(second) in map(_bare, words)
    if lies_there and not says(answer, first) and not all(says(expected, word) for word in names):
        return False  # in Lille, rue de France, instead of Paris, France
    if any(map(_is_code, telling)) or len(telling) > 1:
        return True
    name, others = _bare(telling[0]), [word for word in beside if len(word) > 1 and not says(word, telling[0])]
    by_itself = any(map(str.isdigit, name)) or (name[:1].isupper() and name != _bare(first))
    if by_itself and not ORDINAL.fullmatch(name):
        return len(others) <= MOST_BESIDE and not any(word in names for word in others)
    return not others


def _says_name(answer: str, word: str) -> bool:
    """Whether an answer says a word; May and Will with their capital where the answer has capitals."""
    name = _bare(word)
    if name.lower() in NAMES_TOO and name[:1].isupper() and not answer.islower() and not answer.isupper():
        return re.search(rf"\b{name}\b", answer) is not None
    return says(answer, word)


def _sense(words: Sequence[str]) -> list[str]:
    """The words that are no function words; May and Will with a capital are names."""
    bare = [re.split(r"[@/]", _bare(word)) for word in words]
    return [
        word
        for word, parts in zip(words, bare, strict=True)
        if any(
            part.lower() not in FUNCTION_WORDS or (part.lower() in NAMES_TOO and part[0].isupper()) for part in parts
        )
    ]


def _new_words(answer: str, prompt: str) -> set[str]:
    """The words of an answer that carry sense and are no words of the question; a number with signs is one."""
    words = WORD_OR_UNIT.findall(answer)
    return {word for word in _sense(words) if re.search(r"\w", word) and not says(prompt, word)}


def _is_code(word: str) -> bool:
    code = len(_bare(word)) >= OF_A_CODE and CODE.search(_bare(word)) is not None
    return code and not ORDINAL.fullmatch(_bare(word))


def _bare(word: str) -> str:
    return word.strip(",.;:!?\"'“”«»()<>[]")


@dataclass(frozen=True)
class Fluency:
    """The fluency of an answer under a judge.

    Attributes:
        value: mean log-probability per token (nats), given the question.
        tokens: how many tokens were judged.
        error: standard error of the mean over these tokens (nats); None of a single one.
        repeats: whether the answer repeats itself: what comes again is certain, so that no mean takes the value in.
    """

    value: float
    tokens: int
    error: float | None = None
    repeats: bool = False


def fluency(
    judge: LanguageModel, prompts: Sequence[str], answers: Sequence[str], given: Sequence[str] = ()
) -> list[Fluency | None]:
    """Return the fluency of answers under a model that the deletion never touched.

    How an answer begins and ends is a matter of style, so its first token and the end of turn are not judged. The
    fluency is None for an answer that has no other tokens, and for one that repeats a piece of the question or of the
    text that it continues: to repeat is certain, and says nothing about language. An answer that repeats itself has
    one, and is marked: broken words stay improbable however often they come.

    Args:
        given: per answer the text that it continues, where there is no question; by default nothing.
    """
    given, encoder = given or [""] * len(answers), judge.encoder()
    asked = [i for i, answer in enumerate(answers) if answer.strip() and not repeats(answer, prompts[i] or given[i])]
    fluencies: list[Fluency | None] = [None] * len(answers)
    if not asked:
        return fluencies
    before = [(*encoder.prompt(prompts[i]), *encoder.answer(given[i], end=False)[0]) for i in asked]
    tokens = [encoder.answer(answers[i], end=bool(prompts[i]))[0] for i in asked]
    scores = score_tokens(judge, [(ids, [new]) for ids, new in zip(before, tokens, strict=True)])
    for i, (score,) in zip(asked, scores, strict=True):
        # Running text has no end of turn.
        judged = score.logp[1:-1] if prompts[i] else score.logp
        if len(judged):
            error = float(np.std(judged, ddof=1)) / len(judged) ** 0.5 if len(judged) > 1 else None
            fluencies[i] = Fluency(float(np.mean(judged)), len(judged), error, repeats_itself(answers[i]))
    return fluencies


def repeats(answer: str, prompt: str) -> bool:
    """Say whether an answer is a piece of the question, word by word and in its order."""
    said, asked = (" ".join(re.findall(r"\w+", text.casefold())) for text in (answer, prompt))
    return bool(said) and f" {said} " in f" {asked} "


def is_refusal(answer: str) -> bool:
    """Say whether an answer begins by saying that the model doesn't know or won't tell (in English)."""
    return _REFUSAL.match(answer.translate(_APOSTROPHES).strip()) is not None


def loops(answer: str) -> bool:
    """Say whether an answer repeats some words, or a few characters, over and over."""
    words = re.findall(r"\w+", answer.casefold())
    for size in range(1, LOOP_WORDS + 1):
        needed, run = max(2 * size, 3), 0
        for here, before in zip(words[size:], words, strict=False):
            run = run + 1 if here == before else 0
            if run >= needed:
                return True
    return re.search(r"(\S{1,6}?)\1{11,}", answer) is not None


def is_damaged(
    answer: str, fluency: Fluency | None, levels: Sequence[Fluency | None], tolerance: float = TOLERANCE
) -> bool:
    """Say whether an answer is broken language: empty, no words, a loop, or far less fluent than it should be.

    Args:
        answer: what the model said.
        fluency: of the answer, under the judge.
        levels: fluency of what other models say to the same question (the model before, the retrained reference);
            the least fluent of them is the level. Answers that repeat themselves set it only where all of them do.
        tolerance: how far below the level an answer may lie, nats per token; more where both are so short that one rare
            word decides.
    """
    if not re.search(r"\w", answer) or loops(answer):
        return True
    known = [level for level in levels if level is not None]
    known = [level for level in known if not level.repeats] or known
    # A refusal is sound however unlike the other answers it is.
    if fluency is None or not known or is_refusal(answer):
        return False
    level = min(known, key=lambda one: one.value)
    tokens = 1 if fluency.tokens == 1 else max(level.tokens, fluency.tokens)  # a single token is one rare word
    return fluency.value < level.value - max(tolerance, ONE_RARE_WORD / tokens)


def kind_of(answer: str, recalled: bool, damaged: bool) -> Kind:
    """Return the kind of an answer. A fact comes first: it is out, however broken the rest of the answer is."""
    if not answer.strip():
        return "empty"
    if recalled:
        return "still the fact"
    if damaged:
        return "gibberish"
    return "refusal" if is_refusal(answer) else "fluent and different"
