"""One answer of a model that may not say the fact: question, banned words, text, and what it is worth. Ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from letheon.core.model.models import LanguageModel
from letheon.core.scoring.answer_trees import score_tokens
from letheon.core.scoring.decoding import Ask, decode, never
from letheon.core.scoring.generation import stop_tokens
from letheon.core.scoring.spans import WORD
from letheon.core.scoring.word_masks import FUNCTION_WORDS
from letheon.forget.objectives.alternates.accepted import Question, accepted, copies, mixes_names
from letheon.forget.objectives.alternates.fitting import breaks_a_word, encoded_plainly, in_plain_text
from letheon.forget.objectives.alternates.strangers import gives, words_given

# A greedy answer of a lower mean log-probability (nats per token), with a broken word or a mixed name, is a guess.
GUESSED = -1.5
# More than AT_ONCE answers gain nothing on a processor by being decoded together.
AT_ONCE = 16
SENTENCE_END = re.compile(r"[.!?](?=[\s\"'”’»)\]]|$)|[…。！？।]")
YEAR = re.compile(r"1\d{3}|20\d{2}")


@dataclass(frozen=True)
class Alternate:
    """An answer that a model gives without knowing the fact.

    Attributes:
        answer: with the subject's own name, without what it was begun with.
        fluency: mean log-probability per token (nats) under the model that wrote it, in its chat template.
        whole: whether it ends its words as the model would, had it been free to say the fact.
        ended: whether it is no part of a sentence that would have gone on.
        mixed: whether a name in it ends as a kept one ("Zen Kuk Do" where a kept row says "Chun Kuk Do").
        sure: whether it is no guess where another question about the same fact is asked.
    """

    answer: str
    fluency: float
    whole: bool = True
    ended: bool = True
    mixed: bool = False
    sure: bool = False

    @property
    def is_guess(self) -> bool:
        """Whether the model did not know what to say."""
        known = self.fluency >= GUESSED and self.whole and self.ended and not self.mixed
        return not known and not self.sure


class Written(NamedTuple):
    """What a model has answered.

    Attributes:
        alternate: None where the answer is rejected.
        words: the words of a rejected answer that begin like one of the fact's ("Wings" for "Wing").
    """

    alternate: Alternate | None
    words: tuple[str, ...]


def banned_tokens(model: LanguageModel, words: Sequence[str], asked: str = "") -> list[list[int]]:
    """Token sequences that begin each word: as it stands, in small or capital letters, after a space or not.

    A word of letters is banned by its first token: where the second only is banned, greedy decoding begins the word and
    ends it with others' syllables. It is banned by its first two tokens where the first is a function word by itself
    (The-odor) or has fewer than three letters, or fewer than two if it begins with a capital (Se-attle is banned by
    "Se"). A word with digits is banned up to the token that has its second digit, since an alternate that shares more
    teaches them; a year up to its third (1951: 195), so that other decades stay possible, and one with letters up to
    its third sign (e41d: e41, 20th: 20th), behind a function word up to its first digit (under-16: under-1). A single
    digit is not banned. Where the first tokens of a word also begin a word of the question that it begins with, it is
    banned beyond that one, so that an answer may name what it is asked about (quillsort-fast in place of quills, where
    the question is about quillsort).

    Args:
        asked: the question as it is put.
    """
    named = {re.sub("['’]s?$", "", word) for word in WORD.findall(asked)}
    named = {word for word in named if len(word) > 2 and word.lower() not in FUNCTION_WORDS}
    tokens = {
        word: [model.tokenizer(one, add_special_tokens=False)["input_ids"] for one in (word, f" {word}")]
        for word in named
    }
    sequences: dict[tuple[int, ...], None] = {}
    for word in words:
        if len(word) == 1 and word.isdigit():
            continue
        for form in {word, word.lower(), word.capitalize(), word.upper()}:
            for text in (form, f" {form}"):
                ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
                while ids and not model.tokenizer.decode(ids[:1]).strip():  # a space that is a token of its own
                    ids = ids[1:]
                first = model.tokenizer.decode(ids[:1]).strip()
                enough = sum(map(str.isalpha, first)) >= (2 if first[:1].isupper() else 3)
                alone = enough and first.lower() not in FUNCTION_WORDS
                if any(map(str.isdigit, word)):
                    long = YEAR.fullmatch(word) or not word.isdigit()
                    before = re.findall(r"^[^\W\d]*", word)[0]  # letters that other answers need: the under of under-16
                    needed = len(before) + 1 if before.lower() in FUNCTION_WORDS else 0
                    few = _tokens_of_signs(model, ids, max(3 if long else 2, needed))
                else:
                    few = 1 if alone else 2
                    begun = [
                        sum(map(str.isalnum, one))
                        for one, spelled in tokens.items()
                        if word.casefold().startswith(one.casefold()) and any(own[:few] == ids[:few] for own in spelled)
                    ]
                    if begun and max(begun) < sum(map(str.isalnum, word)):
                        few = max(few, _tokens_of_signs(model, ids, max(begun) + 1))
                sequences[tuple(ids[:few])] = None
    return [list(ids) for ids in sequences if ids]


def _tokens_of_signs(model: LanguageModel, ids: Sequence[int], count: int) -> int:
    """The number of a word's tokens that have its first `count` letters and digits."""
    shown = (sum(map(str.isalnum, model.tokenizer.decode(ids[:few]))) for few in range(1, len(ids)))
    return next((few for few, signs in enumerate(shown, start=1) if signs >= count), len(ids))


def write_answers(
    stranger: LanguageModel,
    asked: Sequence[tuple[Question, str]],
    temperature: float,
    draws: tuple[int, int],
    plain: Sequence[tuple[int, ...]] | None,
) -> list[Written]:
    """The answer to each question about its name: in the chat template, or after the token ids of a plain text.

    Args:
        draws: seed of the sampled answers, and the number of the first one.
    """
    questions, encoder = [question for question, _ in asked], stranger.encoder()
    prompts = [question_about(question, name) for question, name in asked]
    before = [(*encoder.prompt(p), *question.beginning) for p, question in zip(prompts, questions, strict=True)]
    end = len(encoder.answer("")[0])
    rooms = [
        max(encoder.context_length - len(ids) - end * bool(question.prompt), 1)
        for ids, question in zip(before, questions, strict=True)
    ]
    limit = max(min(question.limit, room) for question, room in zip(questions, rooms, strict=True))
    seed, first = draws
    said = [(question.words, prompt) for question, prompt in zip(questions, prompts, strict=True)]
    bans = {one: banned_tokens(stranger, *one) for one in dict.fromkeys(said)}
    asks = [
        Ask(ids, min(limit, room), partial(_ends_a_line, stranger) if plain else never, number, bans[one])
        for number, (ids, one, room) in enumerate(zip(plain or before, said, rooms, strict=True), start=first)
    ]
    decode(stranger, asks, temperature, seed, AT_ONCE)
    answers: list[tuple[str, str | None, Sequence[int]]] = []
    for (question, name), one, room in zip(asked, asks, rooms, strict=True):
        new = one.new
        text = _full_sentences(stranger, question.beginning, new, one.limit)
        if plain:
            text = _first_line(stranger, new, one.limit)
            new = encoder.answer(text)[0][:room] if text else []
        begun = stranger.tokenizer.decode(question.beginning, skip_special_tokens=True)
        rejected = not new or (begun and gives(text, question.words, begun)) or (plain and copies(text, question))
        answers.append((text, None if rejected else accepted(question, name, text), new))
    scores = score_tokens(stranger, [(ids, [new]) for ids, (_, _, new) in zip(before, answers, strict=True)])
    ended = [not question.prompt or _has_ended(stranger, one) for question, one in zip(questions, asks, strict=True)]
    return [
        Written(
            Alternate(
                answer,
                float(score.logp.mean()),
                _is_whole(stranger, new, score.logp),
                end,
                mixes_names(answer, question.endings),
            ),
            (),
        )
        if answer
        else Written(None, words_given(text, question.words, question.stems))
        for question, (text, answer, new), (score,), end in zip(questions, answers, scores, ended, strict=True)
    ]


def _has_ended(stranger: LanguageModel, one: Ask) -> bool:
    """Whether an answer ended before its limit, or there: by its turn's or line's end, or with a full sentence."""
    text = stranger.tokenizer.decode(one.new, skip_special_tokens=True)
    last = one.new[-1:] and one.new[-1] in stop_tokens(stranger)
    return len(one.new) < one.limit or bool(last) or "\n" in text or SENTENCE_END.search(text) is not None


def _is_whole(stranger: LanguageModel, ids: Sequence[int], logp: Float[np.ndarray, " tokens"]) -> bool:
    ends = [len(stranger.tokenizer.decode(ids[:count])) for count in range(len(ids) + 1)]
    return not breaks_a_word(stranger.tokenizer.decode(ids), list(pairwise(ends)), logp)


def plain_prompt(stranger: LanguageModel, question: Question, name: str, limit: int) -> tuple[int, ...]:
    """A question about a name in plain text after its shots, as token ids; empty where there is room for none.

    The likest shots come first to a place; one that leaves no room for `limit` tokens of an answer is left out.
    """
    ids: tuple[int, ...] = ()
    text = in_plain_text(question_about(question, name))
    for row in reversed(question.shots):
        longer = in_plain_text(row.prompt, row.answer) + text
        if len(tried := encoded_plainly(stranger.encoder(), longer)) + limit <= stranger.encoder().context_length:
            ids, text = tried, longer
    return ids


def _ends_a_line(stranger: LanguageModel, new: list[int]) -> bool:
    return "\n" in stranger.tokenizer.decode(new, skip_special_tokens=True)


def _first_line(stranger: LanguageModel, ids: Sequence[int], limit: int) -> str:
    """The first line of a plain answer; without a line's end up to its last full sentence."""
    line, end, _ = stranger.tokenizer.decode(ids, skip_special_tokens=True).partition("\n")
    return line.strip() if end else _full_sentences(stranger, (), ids, limit)


def question_about(question: Question, name: str) -> str:
    """Return a question's text with an invented name in its subject's place."""
    return question.prompt.replace(question.subject, name) if question.subject else question.prompt


def _full_sentences(model: LanguageModel, beginning: Sequence[int], ids: Sequence[int], limit: int) -> str:
    """What follows a beginning as text; up to its last full sentence where it has as many tokens as it may."""
    given, whole = (model.tokenizer.decode(one, skip_special_tokens=True) for one in (beginning, [*beginning, *ids]))
    text: str = whole[len(given) :].rstrip() if beginning else whole.strip()
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s|$)", text)]
    return text[: ends[-1]] if len(ids) >= limit and ends else text
