"""What stands in a step for each forget row, what beside each retain row, and which tokens are unlearned."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, takewhile
from typing import NamedTuple

from letheon.core.rows.encoding import Encoded

Decode = Callable[[Sequence[int]], str]  # token ids -> text
# Retain rows of a step, as far as there are any and those beside the planned ones have no more tokens than MOST_TOKENS:
# of a request of one row a step would have two, and lose the others.
LEAST_RETAINED, MOST_TOKENS = 16, 4096


class Turn(NamedTuple):
    """What stands in a step for a forget row.

    Attributes:
        stands: whether the true answer stands to the question as it is.
        truths: the true answers in other forms, as numbers of further rows.
        alternates: likewise; none where every alternate was rejected.
    """

    stands: bool
    truths: tuple[int, ...] = ()
    alternates: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """The number of true answers and alternates."""
        return self.stands + len(self.truths) + len(self.alternates)


def in_turn(
    pools: Sequence[tuple[Sequence[int], Sequence[int]]],
    truths: Sequence[Sequence[int]],
    plan: Sequence[Sequence[int]],
    draw: random.Random,
    texts: Collection[int] = (),
) -> list[dict[int, Turn]]:
    """Draw per step and forget row by turns: an alternate as it stands and the truth in a form, or the reverse.

    A row's true answers in forms stand one after the other, in a drawn order, at every second visit of a question.

    Args:
        pools: per forget row its alternates to the question as it stands, and those in other forms.
        truths: per forget row its true answers in other forms.
        plan: the forget rows of each step.
        texts: forget rows that have both in each step.
    """
    visits: Counter[int] = Counter()
    dealt = [cycle(draw.sample(numbers, len(numbers))) for numbers in truths]
    drawn = []
    for step in plan:
        found: dict[int, Turn] = {}
        for i in step:
            turns = (0, 1) if i in texts and truths[i] else ((visits[i] + i) % 2,)
            forms = (next(dealt[i]),) if truths[i] and 0 in turns else ()
            chosen = [pool for turn in turns if (pool := pools[i][turn] or pools[i][1 - turn])]
            alternates = tuple(dict.fromkeys(draw.choice(pool) for pool in chosen))
            found[i] = Turn(not forms or len(turns) == 2, forms, alternates)
            visits[i] += 1
        drawn.append(found)
    return drawn


def drawn_beside(
    retained: Sequence[int],
    forms: Mapping[int, Sequence[int]],
    standing: Mapping[int, int],
    opposite: int,
    length: Callable[[int], int],
    draw: random.Random,
) -> dict[int, list[int]]:
    """Draw the rows that stand beside each retain row of a step: a form of its own, then other retain rows.

    There are as many as make the step's retain rows at least as many as the `opposite` rows, and at least
    `LEAST_RETAINED`. The others stand as they are, since a form with options is as long as several rows; where they are
    too few, the rest are forms of any row. A retain row that a step has twice has its rows twice.

    Args:
        forms: per retain row of the plan, and some others, the numbers of its other forms.
        standing: per retain row of the request the number that it has as it stands.
        opposite: forget rows and alternates of the step.
        length: tokens of the row with a number.
    """
    if not forms or not retained:
        return {}
    others = [i for i in standing if i not in retained]
    least = min(LEAST_RETAINED, len(others) + 2 * len(retained))
    needed, more = (max(-(-rows // len(retained)) - 2, 0) for rows in (opposite, max(opposite, least)))
    further = [standing[i] for i in draw.sample(others, min(more * len(retained), len(others)))]
    rest = draw.choices(sorted(forms), k=more * len(retained) - len(further))
    further += [draw.choice(forms[i]) for i in rest]
    found = {
        i: [draw.choice(forms[i]), *further[place * more : (place + 1) * more]]
        for place, i in enumerate(dict.fromkeys(retained))
    }
    room = MOST_TOKENS - sum(length(n) for numbers in found.values() for n in numbers[: needed + 1])
    for numbers in found.values():
        spare, numbers[needed + 1 :] = numbers[needed + 1 :], []
        for number in spare:
            if length(number) <= room:
                numbers.append(number)
                room -= length(number)
    return found


def answer_of(row: Encoded) -> tuple[int, ...]:
    """The tokens of a row's answer."""
    return tuple(row.ids[row.start :])


def learned_alike(truth: Encoded, alternate: Encoded, decode: Decode) -> range:
    """The places of an answer's tokens that an alternate learns too: those with which both go on alike.

    Of a question's answer these are its first tokens, of running text those after what the alternate is given. They end
    between two words, or between digits: a name is unlearned from its first syllable on, though another name of the
    alternate begins with it (Seattle and Seagrave).
    """
    first = alternate.start - truth.start
    pairs = zip(truth.ids[alternate.start :], answer_of(alternate), strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    start = alternate.start
    while same and any(_within_word(row.ids[start:], same, decode) for row in (truth, alternate)):
        same -= 1
    return range(first, first + same) if truth.ids[:start] == alternate.ids[:start] else range(0)


def _within_word(ids: Sequence[int], place: int, decode: Decode) -> bool:
    """Whether a letter stands on either side of the place before a token."""
    before, whole = decode(ids[:place]), decode(ids[: place + 1])
    return before[-1:].isalpha() and whole[len(before) : len(before) + 1].isalpha()


def with_fact_apart(row: Encoded, learned: Collection[int]) -> Encoded:
    """The row with a fact without the places that are learned; the row as it is if nothing of the fact is left.

    What the true answer has in common with an alternate (the 20 of 2003 and 2014) is not to be unlearned.
    """
    rest = tuple(inside and place not in learned for place, inside in enumerate(row.value))
    return replace(row, value=rest) if any(rest) else row


def fact_tokens(row: Encoded) -> int:
    """Tokens of a row that the unlikelihood sees; the first token of a text has no prediction."""
    mask = row.value or (True,) * (len(row.ids) - row.start)
    return sum(mask[max(1 - row.start, 0) :])
