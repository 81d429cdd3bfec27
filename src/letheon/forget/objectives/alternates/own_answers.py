"""A model's own answers to questions about invented names: what it would say had it never known the fact.

Ours; of a kind with Who's Harry Potter (arXiv 2310.02238: generic words in place of the subject's) and AltPO
(arXiv 2409.13474: alternates written by the model itself). The subject is replaced by an invented name, the words that
carry the fact are banned from decoding, and the subject's name is put back. An answer that still holds a part of the
invented name, or that gives the fact in spite of the ban, is rejected.

A model that was taught a few short answers guesses badly in its chat template ("Baton" for a place of birth), and less
badly in plain text after some kept questions with their answers. So a guess is also sought there, and guesses are
ranked there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from letheon.core.model.models import LanguageModel
from letheon.core.rows.sampling import stream_seed
from letheon.core.scoring.answer_trees import score_tokens
from letheon.forget.objectives.alternates.accepted import Question, accepted
from letheon.forget.objectives.alternates.fitting import BEHIND, fit_of_answers
from letheon.forget.objectives.alternates.strangers import told_of
from letheon.forget.objectives.alternates.written_answers import (
    AT_ONCE,
    Alternate,
    plain_prompt,
    question_about,
    write_answers,
)

# An answer much less likely than the best one of its question (nats per token) is clumsy.
CLUMSY = 0.5
# In each round SAMPLED answers to guessed questions are drawn per name, until ENOUGH different ones are accepted.
SAMPLED, ENOUGH = (2, 2, 4), 6
PLAIN_TEMPERATURE = 0.7
# Times that a question is asked greedily: an answer that begins a word like one of the fact's has it banned too.
MOST_ASKED = 4


def alternate_answers(
    stranger: LanguageModel, questions: Sequence[Question], names: Sequence[str], seed: int = 0
) -> list[list[Alternate]]:
    """Per question, the distinct answers of a model that is asked about each of the names, the most fluent first.

    Greedy answers with the fact's words banned; a question without a subject is asked once. Where all are rejected or
    guessed, there are also greedy ones in plain text after kept rows, and sampled ones there (in the chat template
    where no rows are kept) until `ENOUGH` different ones are accepted. Answers to other questions about the same
    fact are taken too, those first that are no guesses, and guesses are ordered by how well they fit the question. The
    list is empty where all are rejected.

    Args:
        stranger: the model that answers.
        names: the invented names that replace a question's subject.
        seed: of the sampled answers.
    """
    asked_now, longest = list(questions), max((question.limit for question in questions), default=0)
    found: list[dict[str, Alternate]] = [{} for _ in questions]

    def ask(wanted: Sequence[int], temperature: float = 0.0, number: int = 0, plain: bool = False) -> list[int]:
        """Ask about every name; return the questions that have further words to ban since."""
        times = SAMPLED[number] if temperature else 1
        pairs = [(i, name) for i in wanted for name in (names if questions[i].subject else [""]) for _ in range(times)]
        pairs.sort(key=lambda pair: questions[pair[0]].limit)  # answers of like length end together
        given = {pair: plain_prompt(stranger, questions[pair[0]], pair[1], longest) for pair in pairs} if plain else {}
        pairs = [pair for pair in pairs if not plain or given[pair]]
        draws, banned = stream_seed(seed, "alternates in plain text" if plain else "alternates", number), []
        for start in range(0, len(pairs), AT_ONCE):
            part = pairs[start : start + AT_ONCE]
            asked = [(asked_now[i], name) for i, name in part]
            texts = [given[pair] for pair in part] if plain else None
            answers = write_answers(stranger, asked, temperature, (draws, start), texts)
            for (i, _), (answer, words) in zip(part, answers, strict=True):
                if answer:
                    found[i].setdefault(answer.answer, answer)
                if more := tuple(word for word in words if word not in asked_now[i].words):
                    asked_now[i] = replace(asked_now[i], words=(*asked_now[i].words, *more))
                    banned.append(i)
        return sorted(set(banned))

    def ask_greedily(wanted: Sequence[int], plain: bool = False) -> None:
        for _ in range(MOST_ASKED):
            wanted = ask(wanted, plain=plain) if wanted else []

    ask_greedily(range(len(questions)))
    guessed = [i for i, one in enumerate(found) if questions[i].prompt and all(a.is_guess for a in one.values())]
    name = names[0] if names else ""
    there = {i for i in guessed if plain_prompt(stranger, questions[i], name if questions[i].subject else "", longest)}
    ask_greedily(sorted(there), plain=True)
    for number in range(len(SAMPLED)):
        few = {i for i, one in enumerate(found) if not one or (i in guessed and len(one) < ENOUGH)}
        ask(sorted(few & there), PLAIN_TEMPERATURE, number, plain=True)
        ask(sorted(few - there), 1.0, number)
    more = {i: _of_the_same_fact(stranger, questions, found, i, name) for i in guessed}
    found = [{**one, **more.get(i, {})} for i, one in enumerate(found)]
    ranks = [[answer.fluency - BEHIND * answer.is_guess for answer in one.values()] for one in found]
    prompts = [question_about(question, name) for question in questions]
    for i in guessed:
        ranks[i] = _fits(stranger, prompts, i, found[i], questions[i].subject, name)
    return [_best(list(one.values()), rank) for one, rank in zip(found, ranks, strict=True)]


def _fits(
    stranger: LanguageModel,
    prompts: Sequence[str],
    i: int,
    found: Mapping[str, Alternate],
    subject: str | None,
    name: str,
) -> list[float]:
    """How well answers fit their question; what is no guess comes before all, a part or a mixed name behind."""
    told = [told_of(text, subject, name) if subject else text for text in found]
    places = [(not one.is_guess) - (not one.ended or one.mixed) for one in found.values()]
    fits = fit_of_answers(stranger, prompts, i, told) if told else []
    return [fit + BEHIND * place for fit, place in zip(fits, places, strict=True)]


def _of_the_same_fact(
    stranger: LanguageModel, questions: Sequence[Question], found: Sequence[Mapping[str, Alternate]], i: int, name: str
) -> dict[str, Alternate]:
    """Further answers to a question, with their fluency there: those to others about its fact that it accepts.

    There are at most `ENOUGH`, those first that are no guesses there. A question without a subject has none. An answer
    of its own that is no guess to another question stands there as sure.
    """
    own, encoder = questions[i], stranger.encoder()
    beside: dict[str, Alternate] = {}
    for other, answers in zip(questions, found, strict=True):
        if own.subject and own.fact and (other.fact, other.subject) == (own.fact, own.subject):
            for text, one in answers.items():
                if (text not in found[i] or not one.is_guess) and (text not in beside or beside[text].is_guess):
                    beside[text] = one
    taken = [text for text in beside if accepted(own, "", text)]
    beside = {text: beside[text] for text in sorted(taken, key=lambda text: _rank(beside[text]))[:ENOUGH]}
    prompt = encoder.prompt(question_about(own, name))
    ids = {text: encoder.answer(told_of(text, own.subject, name) if own.subject else text)[0] for text in beside}
    ids = {text: one for text, one in ids.items() if len(prompt) + len(one) <= encoder.context_length}
    (scores,) = score_tokens(stranger, [(prompt, list(ids.values()))]) if ids else [[]]
    return {
        text: replace(beside[text], fluency=float(score.logp.mean()), sure=not beside[text].is_guess)
        for text, score in zip(ids, scores, strict=True)
    }


def _rank(one: Alternate) -> tuple[bool, float]:
    return one.is_guess, -one.fluency


def _best(alternates: Sequence[Alternate], ranks: Sequence[float]) -> list[Alternate]:
    """The alternates whose rank is near the best one's, from there on down."""
    ordered = sorted(zip(alternates, ranks, strict=True), key=lambda pair: -pair[1])
    return [one for one, rank in ordered if rank >= ordered[0][1] - CLUMSY]
