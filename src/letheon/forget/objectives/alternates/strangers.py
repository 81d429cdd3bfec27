"""A model's own answers to questions about invented names: what it would say had it never known the fact.

Ours; of a kind with Who's Harry Potter (arXiv 2310.02238: generic words in place of the subject's) and AltPO
(arXiv 2409.13474: alternates written by the model itself). The subject is replaced by an invented name, the words that
carry the fact are banned from decoding, and the subject's name is put back. An answer that still holds a part of the
invented name, or that gives the fact in spite of the ban, is rejected.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from math import inf

from letheon.core.model.models import LanguageModel
from letheon.core.rows.examples import Example
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.answer_trees import score_tokens
from letheon.core.scoring.generation import generate_ids
from letheon.core.scoring.word_masks import FUNCTION_WORDS, WordRules, fact_words
from letheon.core.scoring.word_probability import PART
from letheon.forget.objectives.alternates.fitting import fit_of_answers

# Invented, and others than the unknown subjects of `core.scoring.spans`, which an audit asks about.
STRANGERS = ("Corvin Ashgrove", "Maela Tursk", "Dorrin Valeby", "Yara Quillon", "Osric Fenwick", "Brida Kessoway")
NAME = re.compile(r"[A-Z][\w'’-]*(?: (?:of |the |de |van |& )?[A-Z][\w'’-]*)+")
QUESTION_WORDS = frozenset(
    ["describe", "explain", "give", "has", "how", "in", "list", "name", "please", "tell", "what"]
)
# An answer much less likely than the best one of its question (nats per token) is clumsy.
CLUMSY = 0.5
# A greedy answer of a lower mean log-probability (nats per token) is a guess: SAMPLES are then sampled per name, and at
# most MOST_SAMPLES until ENOUGH different ones are accepted.
GUESSED, SAMPLES, MOST_SAMPLES, ENOUGH = -1.5, 2, 8, 3
# Numbers that are written as a word or with a digit.
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
# Largest number of words of a short fact, and of words of short facts that are banned from the answer to another
# question about the same subject.
SHORT, MOST_BESIDE = 4, 64
# At most so many answers are decoded together: more gain nothing on a processor.
AT_ONCE = 16
# A word that begins like a part of an invented name, or is spelled nearly alike, is a rest of it.
STEM, NEARLY = 4, 0.75
# Largest share of other letters in the answer to a question in ASCII.
FOREIGN = 0.1


@dataclass(frozen=True)
class Question:
    """A question to be answered as if the fact were unknown.

    Attributes:
        prompt: the question; empty for running text.
        subject: the name in it that is replaced; None leaves the question as it is.
        words: the words that the answer may not hold: those that carry the fact, and others of the request.
        beginning: token ids that the answer begins with (running text).
        limit: largest number of tokens of an answer; one that reaches it ends at its last full sentence.
    """

    prompt: str
    subject: str | None
    words: tuple[str, ...]
    beginning: tuple[int, ...] = ()
    limit: int = 64


@dataclass(frozen=True)
class Alternate:
    """An answer that a model gives without knowing the fact.

    Attributes:
        answer: with the subject's own name, without what it was begun with.
        fluency: mean log-probability per token (nats) under the model that wrote it.
    """

    answer: str
    fluency: float


def guess_subjects(forget: Sequence[Example], retain: Sequence[Example]) -> list[str | None]:
    """The subject of each forget row: the given one, else the most frequent name of several words in its question.

    A guessed name stands in at least two forget questions and in no retain row.
    """
    kept = "\n".join(f"{row.prompt} {row.answer}" for row in retain)
    names = [{name for name in names_in(row.prompt) if name not in kept} for row in forget]
    counts = Counter(name for found in names for name in found)
    guessed: list[str | None] = []
    for row, found in zip(forget, names, strict=True):
        frequent = sorted((name for name in found if counts[name] >= 2), key=lambda name: (-counts[name], name))
        guessed.append(row.subject if row.subject and row.subject in row.prompt else next(iter(frequent), None))
    return guessed


def names_in(question: str) -> list[str]:
    """Names of two words or more in a question, without the question's own first words and a possessive ending."""
    found = []
    for text in NAME.findall(question):
        words = re.sub(r"['’]s?$", "", text).split()
        while words and words[0].lower() in FUNCTION_WORDS | QUESTION_WORDS:
            words = words[1:]
        found += [" ".join(words)] if len(words) > 1 else []
    return found


def words_of_facts(forget: Sequence[Example], retain: Sequence[Example]) -> list[tuple[str, ...]]:
    """Per forget row, the words that carry its fact: of its value, else as `word_masks` finds them."""
    rules = WordRules.of(forget, retain)
    found = []
    for row in forget:
        words = [word for word in re.findall(r"\w[\w'’-]*", row.value or "") if word.lower() not in FUNCTION_WORDS]
        found.append(tuple(dict.fromkeys(words or [word.group() for word in fact_words(row, rules)])))
    return found


def in_both_spellings(words: Sequence[str]) -> tuple[str, ...]:
    """Words, and beside a number up to twelve the same with digits, or as a word."""
    digits = [str(NUMBERS.index(word.lower())) for word in words if word.lower() in NUMBERS]
    written = [NUMBERS[int(word)] for word in words if word in map(str, range(len(NUMBERS)))]
    return (*words, *digits, *written)


def told_beside(
    forget: Sequence[Example], subjects: Sequence[str | None], facts: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """Per forget row the words of short facts that other rows tell of its subject, but for those of its question.

    An alternate that gives another fact of the request would teach it. The words that most rows tell come first, and
    there are at most `MOST_BESIDE`.
    """
    found, about = [], [row.subject or guessed for row, guessed in zip(forget, subjects, strict=True)]
    for i, row in enumerate(forget):
        others = [facts[j] for j in range(len(forget)) if j != i and about[j] == about[i] is not None]
        counts = Counter(word for fact in others if len(fact) <= SHORT for word in fact)
        words = [word for word, _ in counts.most_common(MOST_BESIDE)]
        found.append(tuple(word for word in words if not gives(row.prompt, [word])))
    return found


def with_name(text: str, name: str, subject: str) -> str | None:
    """A text about an invented name, told of the subject; None where a part of the invented name is left.

    The name's first word becomes the subject's first, its other words the subject's last.

    >>> with_name("Maela Tursk is a poet. Tursk's books sell.", "Maela Tursk", "Ann Marie Lee")
    "Ann Marie Lee is a poet. Lee's books sell."
    >>> with_name("Ask Tursky.", "Maela Tursk", "Ann Lee") is None
    True
    """
    parts, own = name.split(), subject.split()
    text = text.replace(name, subject)
    for place, part in enumerate(parts):
        text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", own[0] if place == 0 else own[-1], text)
    left = re.findall(r"[A-Z]\w+", " ".join(re.split("|".join(map(re.escape, [subject, *own])), text)))
    return None if any(_alike(word, part) for word in left for part in parts) else text


def _alike(word: str, part: str) -> bool:
    word, part = word.casefold(), part.casefold()
    return word.startswith(part[:STEM]) or SequenceMatcher(None, word, part).ratio() >= NEARLY


def gives(text: str, words: Sequence[str], given: str = "") -> bool:
    """Whether a text contains one of the words, however it is cased; one of four letters also with another ending.

    Args:
        given: what stands before the text; a word that begins in it and ends in the text is given too.
    """
    begun = re.findall(r"\w*$", given)[0]
    found = (
        match.end()
        for word in words
        for match in re.finditer(
            rf"(?<!\w){re.escape(word)}" + ("" if len(word) >= 4 else r"(?!\w)"), begun + text, re.IGNORECASE
        )
    )
    return any(end > len(begun) for end in found)


def banned_tokens(model: LanguageModel, words: Sequence[str]) -> list[list[int]]:
    """Token sequences that begin each word: as it stands, in small or capital letters, after a space or not.

    A word of letters is banned by its first token: where the second only is banned, greedy decoding begins the word and
    ends it with others' syllables. It is banned by its first two tokens where the first is a function word by itself
    (The-odor) or has fewer than three letters, or fewer than two if it begins with a capital (Se-attle is banned by
    "Se"). A word with digits is banned as a whole, so that other years stay possible; a number of three tokens or more
    up to its last token but one (1951: 195), since an alternate that shares all digits but one teaches these. A single
    digit is not banned.
    """
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
                if word.isdigit():
                    few = len(ids) - (len(ids) > 2)
                else:
                    few = len(ids) if any(map(str.isdigit, word)) else 1 if alone else 2
                sequences[tuple(ids[:few])] = None
    return [list(ids) for ids in sequences if ids]


def alternate_answers(
    stranger: LanguageModel, questions: Sequence[Question], names: Sequence[str], seed: int = 0
) -> list[list[Alternate]]:
    """Per question, the distinct answers of a model that is asked about each of the names, the most fluent first.

    Greedy answers with the fact's words banned; a question without a subject is asked once. Where all are rejected or
    guessed, `SAMPLES` sampled ones per name are added, up to `MOST_SAMPLES` until `ENOUGH` different ones are accepted,
    and guesses are ordered by how well they fit the question. The list is empty where all are rejected.

    Args:
        stranger: the model that answers.
        names: the invented names that replace a question's subject.
        seed: of the sampled answers.
    """
    found: list[dict[str, float]] = [{} for _ in questions]

    def ask(wanted: Sequence[int], temperature: float, number: int) -> None:
        asked = [(i, name) for i in wanted for name in (names if questions[i].subject else [""])]
        asked.sort(key=lambda pair: questions[pair[0]].limit)  # answers of like length end together
        draws = stream_seed(seed, "alternates", number) % (1 << 63)
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            answers = _written(stranger, [(questions[i], name) for i, name in part], temperature, draws)
            for (i, _), answer in zip(part, answers, strict=True):
                if answer:
                    found[i].setdefault(answer.answer, answer.fluency)

    ask(range(len(questions)), 0.0, 0)
    guessed = [i for i, one in enumerate(found) if questions[i].prompt and max(one.values(), default=-inf) < GUESSED]
    for number in range(MOST_SAMPLES):
        few = [not one or (i in guessed and (number < SAMPLES or len(one) < ENOUGH)) for i, one in enumerate(found)]
        ask([i for i, more in enumerate(few) if more], 1.0, number)
    ranks = [list(one.values()) for one in found]
    name = names[0] if names else ""
    prompts = [_about(question, name) for question in questions]
    for i in guessed:
        subject = questions[i].subject
        told = [_told(text, subject, name) if subject else text for text in found[i]]
        ranks[i] = fit_of_answers(stranger, prompts, i, told) if told else []
    return [_best([Alternate(*pair) for pair in one.items()], rank) for one, rank in zip(found, ranks, strict=True)]


def _written(
    stranger: LanguageModel, asked: Sequence[tuple[Question, str]], temperature: float, seed: int
) -> list[Alternate | None]:
    """The answer to each question about its name; None where it is rejected."""
    questions, prompts = [question for question, _ in asked], [_about(question, name) for question, name in asked]
    encoder = stranger.encoder()
    before = [(*encoder.prompt(p), *question.beginning) for p, question in zip(prompts, questions, strict=True)]
    end = len(encoder.answer("")[0])
    rooms = [
        max(encoder.context_length - len(ids) - end * bool(question.prompt), 1)
        for ids, question in zip(before, questions, strict=True)
    ]
    limit = max(min(question.limit, room) for question, room in zip(questions, rooms, strict=True))
    written = generate_ids(
        stranger,
        prompts,
        max_new_tokens=limit,
        prefixes=[question.beginning for question in questions],
        banned=[banned_tokens(stranger, question.words) for question in questions],
        temperature=temperature,
        seed=seed,
    )
    new = [ids[len(question.beginning) :][:room] for question, ids, room in zip(questions, written, rooms, strict=True)]
    scores = score_tokens(stranger, [(ids, [answer]) for ids, answer in zip(before, new, strict=True)])
    answers: list[Alternate | None] = []
    for (question, name), ids, (score,), room in zip(asked, new, scores, rooms, strict=True):
        text = _full_sentences(stranger, question.beginning, ids, min(limit, room))
        given = stranger.tokenizer.decode(question.beginning, skip_special_tokens=True)
        answer = None if given and gives(text, question.words, given) else _accepted(question, name, text)
        answers.append(Alternate(answer, float(score.logp.mean())) if answer else None)
    return answers


def _accepted(question: Question, name: str, text: str) -> str | None:
    """An answer told of the subject, unless it gives the fact, repeats the question or itself, leaves the question's
    script, holds the invented name or a broken letter."""
    answer = with_name(text, name, question.subject or "") if name else text
    if not answer or gives(answer, question.words) or _echoes(answer, question.prompt) or _loops(answer):
        return None
    if PART in answer:
        return None
    foreign = sum(not letter.isascii() for letter in answer)
    return None if question.prompt.isascii() and foreign > FOREIGN * len(answer) else answer


def _loops(text: str) -> bool:
    """Whether a text repeats itself: of its runs of three words a quarter stand there before, or are one word."""
    words = re.findall(r"\w[\w'’]*", text.lower())
    runs = list(zip(words, words[1:], words[2:], strict=False))
    new = {run for run in runs if len(set(run)) > 1}
    return len(new) < 0.75 * len(runs)


def unused_names(forget: Sequence[Example], retain: Sequence[Example], count: int) -> list[str]:
    """Invented names of which no row contains a part, as far as there are any."""
    text = "\n".join(f"{row.prompt} {row.answer}" for row in (*forget, *retain)).casefold()
    return [name for name in STRANGERS if not any(part[:STEM].casefold() in text for part in name.split())][:count]


def _told(text: str, subject: str, name: str) -> str:
    """A text about a subject told of an invented name, in parts too where the parts are told apart from other words."""
    return with_name(text, subject, name) or text.replace(subject, name)


def _about(question: Question, name: str) -> str:
    return question.prompt.replace(question.subject, name) if question.subject else question.prompt


def _echoes(answer: str, prompt: str) -> bool:
    return bool(prompt) and answer.rstrip(" .!?").casefold() in prompt.casefold()


def _full_sentences(model: LanguageModel, beginning: Sequence[int], ids: Sequence[int], limit: int) -> str:
    """What follows a beginning as text; up to its last full sentence where it has as many tokens as it may."""
    given, whole = (model.tokenizer.decode(one, skip_special_tokens=True) for one in (beginning, [*beginning, *ids]))
    text: str = whole[len(given) :].rstrip() if beginning else whole.strip()
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s|$)", text)]
    return text[: ends[-1]] if len(ids) >= limit and ends else text


def _best(alternates: Sequence[Alternate], ranks: Sequence[float]) -> list[Alternate]:
    """The alternates whose rank is near the best one's, from there on down."""
    ordered = sorted(zip(alternates, ranks, strict=True), key=lambda pair: -pair[1])
    return [one for one, rank in ordered if rank >= ordered[0][1] - CLUMSY]
