"""What posts say of memory: searches per item, time to the answer, by genre and popularity.

Paper:   Bhattacharyya et al., arXiv 2511.20854. Posts that nobody solved are missing, so times to the answer are of
         the easier ones.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from letheon.core.statistics import Estimate, estimate_mean
from letheon.measure.human.agreement import pearson
from letheon.measure.human.scenes import Content
from letheon.measure.human.tip_of_tongue.data import Post

HOUR = 3600.0
BINS = ((2, 10), (10, 100), (100, math.inf))  # posts per item


@dataclass(frozen=True)
class TotStatistics:
    """Analysis of posts.

    Attributes:
        searches: correlation of posts per item with log10 of its views, by bin of posts per item and over all.
        response: correlation of the logarithm of the time to the answer with log10 of the item's views.
        hours_by_genre: geometric mean of the hours to the answer, by genre.
        posts_by_genre: number of posts.
    """

    searches: Mapping[str, Estimate]
    response: Estimate
    hours_by_genre: Mapping[str, float]
    posts_by_genre: Mapping[str, int]


def tot_statistics(items: Sequence[Content], posts: Sequence[Post]) -> TotStatistics:
    """Analyse posts; items without views and posts without both times are left out where these are needed."""
    by_id = {item.id: item for item in items}
    counts = Counter(post.content for post in posts)
    views = {item.id: math.log10(item.views) for item in items if item.views}
    searches = {"all": _correlation(counts, views, 1, math.inf)}
    searches |= {f"{low} to {high:g} posts": _correlation(counts, views, low, high) for low, high in BINS}
    timed = [(post, math.log(hours)) for post in posts if (hours := hours_to_answer(post)) is not None]
    seen = [(views[post.content], value) for post, value in timed if post.content in views]
    by_genre: dict[str, list[float]] = defaultdict(list)
    for post, value in timed:
        by_genre[by_id[post.content].genre or "unknown"].append(value)
    return TotStatistics(
        searches,
        pearson([one for one, _ in seen], [one for _, one in seen]),
        {genre: math.exp(float(np.mean(values))) for genre, values in by_genre.items()},
        dict(Counter(by_id[post.content].genre or "unknown" for post in posts)),
    )


def hours_to_answer(post: Post) -> float | None:
    """Return the hours from a post to its solution; None where a time is missing or the order is wrong."""
    if post.created is None or post.solved is None or post.solved <= post.created:
        return None
    return (post.solved - post.created) / HOUR


def _correlation(counts: Counter[str], views: Mapping[str, float], low: float, high: float) -> Estimate:
    pairs = [(float(n), views[key]) for key, n in counts.items() if key in views and low <= n < high]
    return pearson([n for n, _ in pairs], [v for _, v in pairs])


def by_slice(values: Mapping[str, float], posts: Sequence[Post], items: Sequence[Content]) -> dict[str, Estimate]:
    """Return means of a value per post by genre, length of the recall, time to the answer and posts per item."""
    genre = {item.id: item.genre for item in items}
    counts = Counter(post.content for post in posts)
    slices: dict[str, list[float]] = defaultdict(list)
    for post in posts:
        if post.id not in values:
            continue
        hours = hours_to_answer(post)
        names = [f"genre {genre[post.content]}" if genre[post.content] else ""]
        names.append("short" if len(post.recall.split()) < 60 else "long")
        names.append("" if hours is None else "easy" if hours < 1 else "hard" if hours > 100 else "medium")
        names.append("rare" if counts[post.content] < 3 else "")
        for name in filter(None, names):
            slices[name].append(values[post.id])
    return {name: estimate_mean(one) for name, one in sorted(slices.items())}
