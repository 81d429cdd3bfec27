"""Interaction logs of recommenders: MovieLens files, a synthetic log, sequences as examples, ranking metrics.

An interaction becomes a row: the prompt lists what the user took before, in time, and the answer is what came next. So
a recommender is a language model like any other, and part of a log is forgotten as any other rows are.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from letheon.core.errors import InputError
from letheon.core.rows.examples import Example, short

HISTORY = 8  # interactions that a prompt shows


@dataclass(frozen=True, order=True)
class Interaction:
    """One interaction of a user with an item: ids as in the log, seconds since 1970, the rating if there is one."""

    user: int
    time: int
    item: int
    rating: float | None = None


@dataclass(frozen=True)
class Log:
    """Interactions, by user and time, and the items' titles; each item has one."""

    interactions: tuple[Interaction, ...]
    titles: Mapping[int, str]

    def sequences(self) -> dict[int, list[Interaction]]:
        """The interactions of each user in the order of time."""
        by_user: dict[int, list[Interaction]] = {}
        for interaction in self.interactions:
            by_user.setdefault(interaction.user, []).append(interaction)
        return by_user

    def core(self, least: int = 5) -> Log:
        """The k-core: users and items with `least` interactions or more, until nothing more falls out."""
        interactions = self.interactions
        while True:
            users, items = Counter(i.user for i in interactions), Counter(i.item for i in interactions)
            left = tuple(i for i in interactions if users[i.user] >= least and items[i.item] >= least)
            if len(left) == len(interactions):
                return Log(interactions, {item: self.titles[item] for item in items})
            interactions = left

    def examples(self, history: int = HISTORY) -> dict[Interaction, Example]:
        """Each interaction but a user's first as a row: titles of up to `history` earlier items, then the next one."""
        rows = {}
        for user, sequence in self.sequences().items():
            for place in range(1, len(sequence)):
                before = [self.titles[i.item] for i in sequence[max(0, place - history) : place]]
                target = sequence[place]
                title = self.titles[target.item]
                rows[target] = Example(f"history: {'; '.join(before)} next:", title, f"user {user}, {place}")
        return rows


def make_log(interactions: Iterable[Interaction], titles: Mapping[int, str]) -> Log:
    """A log in order; interactions with items that have no title are left out."""
    return Log(tuple(sorted(i for i in interactions if titles.get(i.item))), dict(titles))


def read_movielens(folder: str | Path, least: int = 5) -> Log:
    """MovieLens-100k: `u.data` (tabs: user, item, rating, time) and `u.item` (bars: item, title, ...), as a 5-core.

    Raises:
        InputError: names the file and the line that cannot be read.
    """
    folder = Path(folder)
    titles = {item: title for item, title in (_item(*line) for line in _lines(folder / "u.item", "|", 2)) if title}
    log = make_log((_interaction(*line) for line in _lines(folder / "u.data", "\t", 4)), titles).core(least)
    if not log.interactions:
        raise InputError(f"{folder}: no user and item with {least} interactions", "ask for a smaller core")
    return log


def _lines(path: Path, separator: str, least: int) -> Iterable[tuple[str, list[str]]]:
    """Yield the place and the fields of each line; MovieLens is written in Latin-1."""
    try:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise InputError(
            f"{path} could not be read: {error.strerror}", "give the folder of u.data and u.item (MovieLens-100k)"
        ) from None
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split(separator)
        if line.strip() and len(fields) < least:
            raise InputError(f"{path}, line {number}: found {short(line)}", f"a line has {least} fields or more")
        if line.strip():
            yield f"{path}, line {number}", fields


def _item(where: str, fields: Sequence[str]) -> tuple[int, str]:
    return _number(where, fields[0]), "" if fields[1].strip() == "unknown" else fields[1].strip()


def _interaction(where: str, fields: Sequence[str]) -> Interaction:
    user, item, rating, time = (_number(where, field) for field in fields[:4])
    return Interaction(user, time, item, float(rating))


def _number(where: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{where}: found {short(text)}, not a whole number", "mend that line") from None


def synthetic_log(
    seed: int,
    users: int,
    habits: Sequence[Mapping[int, Sequence[int]]],
    *,
    length: int = 16,
    session: int = 8,
    shares: Sequence[float] = (1.0,),
) -> tuple[Log, dict[Interaction, int]]:
    """A log whose users follow habits: after an item mostly one that the habit names, else any of its own.

    Args:
        habits: each a map from an item to its usual successors; the maps may share items.
        length, session: interactions of a user, and of those how many in a row follow one habit.
        shares: how many sessions follow each habit.

    Returns:
        The log, and which habit each interaction followed.
    """
    draw = random.Random(seed)
    habit_of: dict[Interaction, int] = {}
    for user in range(users):
        item, which = -1, 0
        for place in range(length):
            if place % session == 0:
                which = draw.choices(range(len(habits)), shares)[0]
            habit = habits[which]
            usual = item in habit and draw.random() < 0.9
            item = draw.choice(habit[item]) if usual else draw.choice(sorted(habit))
            habit_of[Interaction(user, place, item)] = which
    items = {item for habit in habits for item in habit}
    return make_log(habit_of, {item: f"i{item}" for item in sorted(items)}), habit_of


def ranking_metrics(ranks: Sequence[int], cutoffs: Sequence[int] = (5, 10)) -> dict[str, float]:
    """Mean Recall@K, MRR@K and NDCG@K of ranks that count from 1, for one wanted item each."""
    metrics = {}
    for k in cutoffs:
        near = [rank for rank in ranks if rank <= k]
        metrics[f"recall@{k}"] = len(near) / len(ranks)
        metrics[f"mrr@{k}"] = sum(1 / rank for rank in near) / len(ranks)
        metrics[f"ndcg@{k}"] = sum(1 / math.log2(rank + 1) for rank in near) / len(ranks)
    return metrics
