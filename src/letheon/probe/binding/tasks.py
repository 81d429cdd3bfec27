"""Lists of bound entities, and counterfactuals that separate three ways to look one up.

Paper:   Mixing Mechanisms, arXiv 2510.06182: from a list x whose question asks for group q, a counterfactual x' is made
         by choosing p, exchanging the answers of groups p and r and the queried words of groups p and s, and asking for
         the word that now stands at p. The last token's state of x' put into x points to group p by position, to s by
         the word, and to r by the answer itself.
Differs: two of the paper's ten tasks; all of p, q, r, s differ, so that labels never coincide.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from letheon.core.errors import InputError
from letheon.core.model.models import LanguageModel


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OBJECTS = _words("""
    apple book clock hat cup ring coin shoe lamp key ball knife bell brush map drum rope pen flag mask stone spoon card
    cake belt fan coat toy jar phone plate glass bag bread nut
""")
NAMES = _words("""
    Ann Bob Carl Dan Eva Frank Grace Henry Ian Jack Kate Laura Mary Nick Oscar Paul Rose Sam Tom Victor Alice Peter
    John James Emma Lucy Mark David Sarah
""")
FOODS = _words("jam pie rice fish cake bread soup corn beans milk honey cheese salt meat eggs tea fruit wine nuts pork")


@dataclass(frozen=True)
class Schema:
    """A task: lists of groups, each with a queried word and an answer, and a question.

    Attributes:
        name: its name on the command line.
        queried, answers: words of both kinds.
        clause: one group, with {query} and {answer}.
        question: ends so that the answer is the next token; with {query}.
        opening: words before the list, so that every entity stands after a space.
    """

    name: str
    queried: tuple[str, ...]
    answers: tuple[str, ...]
    clause: str
    question: str
    opening: str = ""


SCHEMAS = {
    one.name: one
    for one in (
        Schema(
            "boxes", OBJECTS, tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "the {query} is in Box {answer}",
            "The {query} is in Box", "In this room,",
        ),
        Schema("foods", NAMES, FOODS, "{query} loves {answer}", "We know that {query} loves", "We know that"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Groups:
    """A list of groups (queried word, answer) and the number of the group that is asked for."""

    pairs: tuple[tuple[str, str], ...]
    asked: int


@dataclass(frozen=True)
class Counterfactual:
    """A list, its counterfactual, and the groups of the list to which each mechanism would point.

    Attributes:
        original, changed: the lists x and x'.
        p, k, r: groups of x by position, by word, and by the answer of x'.
        q: the group that x itself asks for.
    """

    original: Groups
    changed: Groups
    p: int
    k: int
    r: int

    @property
    def q(self) -> int:
        """The group of an intervention without effect."""
        return self.original.asked


def counterfactual(groups: Groups, p: int, r: int, s: int) -> Counterfactual:
    """Exchange the answers of groups p and r and the queried words of groups p and s, and ask for group p.

    Raises:
        InputError: p, r, s and the asked group are not four different groups.
    """
    if len({p, r, s, groups.asked}) < 4:
        raise InputError(f"groups p={p}, r={r}, s={s}, q={groups.asked} coincide", "choose four different groups")
    words, answers = map(list, zip(*groups.pairs, strict=True))
    answers[p], answers[r] = answers[r], answers[p]
    words[p], words[s] = words[s], words[p]
    return Counterfactual(groups, Groups(tuple(zip(words, answers, strict=True)), p), p, s, r)


def draw_pairs(schema: Schema, n: int, count: int, seed: int) -> list[Counterfactual]:
    """Draw counterfactual pairs of n groups with distinct entities.

    Raises:
        InputError: fewer than four groups, or more than there are words.
    """
    most = min(len(schema.queried), len(schema.answers) - 1)  # one answer stays out of the list, for the control
    if most < 4:
        raise InputError(
            f"the tokenizer has words for {max(most, 0)} groups of {schema.name} as single tokens, 4 are needed",
            "choose another task, or a model with a larger vocabulary",
        )
    if not 4 <= n <= most:
        raise InputError(f"{n} groups asked for", f"give 4 to {most} for {schema.name}")
    draw, found = random.Random(seed), []
    for _ in range(count):
        pairs = tuple(zip(draw.sample(schema.queried, n), draw.sample(schema.answers, n), strict=True))
        q, p, r, s = draw.sample(range(n), 4)
        found.append(counterfactual(Groups(pairs, q), p, r, s))
    return found


def with_absent_answer(schema: Schema, pair: Counterfactual) -> Groups:
    """Return x' with an answer that x does not hold: a pointer to it leads nowhere, a copied answer still shows."""
    absent = next(word for word in schema.answers if word not in {answer for _, answer in pair.original.pairs})
    changed = list(pair.changed.pairs)
    changed[pair.p] = (changed[pair.p][0], absent)
    return Groups(tuple(changed), pair.p)


def single_token(model: LanguageModel, words: Sequence[str]) -> tuple[str, ...]:
    """Keep the words that are one token after a space."""
    return tuple(one for one in words if len(model.tokenizer(f" {one}", add_special_tokens=False)["input_ids"]) == 1)


def fitted_to(model: LanguageModel, schema: Schema) -> Schema:
    """Return the schema with the words that are one token each in this model's tokenizer."""
    queried, answers = single_token(model, schema.queried), single_token(model, schema.answers)
    return Schema(schema.name, queried, answers, schema.clause, schema.question, schema.opening)


def encode_groups(model: LanguageModel, schema: Schema, groups: Groups) -> tuple[int, ...]:
    """Encode a list and its question so that the answer is the next token.

    The list is the user's turn of the chat template, if there is one; the question begins the model's answer.
    """
    tokenizer = model.tokenizer
    clauses = ", ".join(schema.clause.format(query=query, answer=answer) for query, answer in groups.pairs)
    question = schema.question.format(query=groups.pairs[groups.asked][0])
    text = f"{schema.opening} {clauses}."
    if not tokenizer.chat_template:
        return tuple(tokenizer(f"{text} {question}", add_special_tokens=True)["input_ids"])
    turn = [{"role": "user", "content": f"{text} Complete the sentence: {question}"}]
    before = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return tuple(tokenizer(before + question, add_special_tokens=False)["input_ids"])


def answer_ids(model: LanguageModel, groups: Groups) -> tuple[int, ...]:
    """Return the tokens of all answers in the order of the groups."""
    return tuple(model.tokenizer(f" {answer}", add_special_tokens=False)["input_ids"][0] for _, answer in groups.pairs)
