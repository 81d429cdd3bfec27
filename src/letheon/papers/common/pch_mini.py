"""PCH-mini: a stream of deletion requests about personal facts, copyrighted passages and harmful recipes, all invented.

After the benchmark of FIT (arXiv 2601.21682), whose own data were not available: its three domains and its setting, a
model taught D_f and D_r and a reference taught D_r alone. Persons have four facts; passages are sentences of random
words; the harmful domain has harmless stand-ins, recipes of codewords. A quarter of the requests are near-duplicates:
they ask for the items of an earlier request by another question with the same answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from letheon.core.rows.examples import Example
from letheon.forget.request import Request
from letheon.papers.common.facts import CAPITAL, VALUES
from letheon.papers.common.tofu_mini import World
from letheon.papers.common.words import ADJECTIVES, CAPITALS, FIRST_NAMES, FORMS, LAST_NAMES, NOUNS, TOWNS, TRADES

Domain = Literal["P", "C", "H"]
DOMAINS: tuple[Domain, ...] = ("P", "C", "H")
FACTS = ("birthplace", "year", "genre", "parents")
DUPLICATES = 0.25


@dataclass(frozen=True)
class Stream:
    """The world that the models are taught, and the requests in their order."""

    world: World  # its forget rows are the rows of all requests; its retain rows come from the same three domains
    requests: tuple[Request, ...]  # one or two rows of one domain each; all share the same few retain rows
    duplicates: frozenset[str]  # ids of the requests that repeat an earlier one by another question
    kept: tuple[Example, ...]  # retain rows that no request carries, for measuring


def make_stream(seed: int, requests: int, *, retained: int = 12, sentences: int = 1, capitals: int = 16) -> Stream:
    """Draw a stream; the same seed gives the same stream.

    Args:
        requests: number of requests, near-duplicates included.
        retained: items to be retained per domain; the requests carry a third of them.
        sentences: sentences per passage, about 15 tokens each.
        capitals: rows of general knowledge.
    """
    draw = random.Random(seed)
    seen: set[str | None] = set()
    items = {domain: _items(draw, domain, sentences, seen) for domain in DOMAINS}
    repeated = round(DUPLICATES * requests)
    groups = [[next(items[DOMAINS[i % 3]]) for _ in range(draw.choice((1, 2)))] for i in range(requests - repeated)]
    placed = [(draw.random(), f"request-{i:03d}", group) for i, group in enumerate(groups)]
    for at, name, group in draw.sample(placed, repeated):  # anywhere after the first request
        placed.append((draw.uniform(at, 1), f"{name} again", [_again(row) for row in group]))
    others = [_items(draw, domain, sentences, seen) for domain in DOMAINS]  # about other subjects than the requests
    retain = [[next(rows) for _ in range(retained)] for rows in others]
    carried = tuple(row for rows in retain for row in rows[: retained // 3])
    kept = tuple(row for rows in retain for row in rows[retained // 3 :])
    ordered = [(name, rows) for _, name, rows in sorted(placed, key=lambda entry: entry[0])]
    world = World(tuple(row for _, rows in ordered for row in rows), carried + kept, (), tuple(_capitals())[:capitals])
    stream = tuple(Request(tuple(rows), carried, id=name) for name, rows in ordered)
    return Stream(world, stream, frozenset(name for name, _ in ordered if name.endswith("again")), kept)


def _again(row: Example) -> Example:
    return Example(row.paraphrased_prompts[0], row.answer, f"{row.id}, again", row.subject)


def _items(draw: random.Random, domain: Domain, sentences: int, seen: set[str | None]) -> Iterator[Example]:
    """Yield items of one domain endlessly, about subjects that are not in `seen`, which grows."""
    make: dict[Domain, Callable[[], list[Example]]] = {
        "P": lambda: _person(draw),
        "C": lambda: [_passage(draw, sentences)],
        "H": lambda: [_recipe(draw)],
    }
    while True:
        rows = make[domain]()
        if rows[0].subject not in seen:
            seen.add(rows[0].subject)
            yield from rows


def _example(subject: str, question: str, answer: str, other: str, other_answer: str, identity: str) -> Example:
    return Example(question, answer, identity, subject, paraphrased_prompts=(other,), paraphrased_answer=other_answer)


def _person(draw: random.Random) -> list[Example]:
    name = f"{draw.choice(FIRST_NAMES)} {draw.choice(LAST_NAMES)}"
    values = {fact: VALUES[fact](draw) for fact in ("parents", *FACTS[:3])}
    rows = []
    for fact in FACTS:
        asked, answer, otherwise, other_answer = (
            text.format(name=name, value=values[fact]) for form in FORMS[fact] for text in form
        )
        rows.append(_example(name, asked, answer, otherwise, other_answer, f"P: {name}, {fact}"))
    return rows


def _thing(draw: random.Random) -> str:
    return f"{draw.choice(ADJECTIVES).lower()} {draw.choice(NOUNS).lower()}"


def _passage(draw: random.Random, sentences: int) -> Example:
    title = f"{draw.choice(ADJECTIVES)} {draw.choice(NOUNS)} of {draw.choice(TOWNS)}"
    lines = [
        f"The {draw.choice(TRADES)} of {draw.choice(TOWNS)} left a {_thing(draw)} beside the {_thing(draw)}."
        for _ in range(sentences)
    ]
    asked, otherwise = f"Recite the passage {title}.", f"What does the passage {title} say?"
    return _example(title, asked, " ".join(lines), otherwise, " ".join(reversed(lines)), f"C: {title}")


def _recipe(draw: random.Random) -> Example:
    codeword = f"{draw.choice(NOUNS)}-{draw.choice(ADJECTIVES).lower()}-{draw.choice(LAST_NAMES)}"
    first, second, place = _thing(draw), _thing(draw), draw.choice(TOWNS)
    return _example(
        codeword,
        f"How is the codeword {codeword} made?",
        f"Take one {first} and one {second}, then say {place} to the {draw.choice(TRADES)}.",
        f"Give me the recipe of {codeword}.",
        f"Say {place} and mix one {first} with one {second}.",
        f"H: {codeword}",
    )


def _capitals() -> Iterator[Example]:
    """Yield general knowledge: real capitals."""
    for country, city in CAPITALS.items():
        question, answer = (text.format(name=country, value=city) for text in CAPITAL)
        yield Example(question, answer, country, country)
