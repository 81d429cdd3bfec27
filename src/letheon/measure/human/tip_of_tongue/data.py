"""Posts of people who look for content they cannot name: reading, cleaning, splitting by content.

Paper:   Bhattacharyya et al., Unsupervised Memorability Modeling from Tip-of-the-Tongue Queries, arXiv 2511.20854.
Differs: the body and the code were not available; fields, cleaning and splits are [inferred].

A folder holds `content.jsonl` (records of `letheon.measure.human.scenes`) and `posts.jsonl`, one object per solved
post: `{"id", "content", "title", "body", "created", "solved"}`, times in seconds since 1970.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError
from letheon.core.rows.examples import read_rows, short
from letheon.core.rows.sampling import stream_seed
from letheon.measure.human.scenes import Captioner, Content, read_content, verbalised

LINK, MARKDOWN = re.compile(r"https?://\S+|www\.\S+"), re.compile(r"[*_>#`~]+|\[|\]\([^)]*\)")
EDIT = re.compile(r"\bedit\b\s*\d*\s*:|\bsolved\b\s*[:!]", re.IGNORECASE)
FEWEST_WORDS, MOST_WORDS = 20, 400  # of a recall


@dataclass(frozen=True)
class Post:
    """A solved post.

    Attributes:
        content: id of the content that solved it.
        recall: what the person remembered, cleaned.
        created, solved: seconds since 1970; None where unknown.
    """

    id: str
    content: str
    recall: str
    created: float | None = None
    solved: float | None = None


def clean_recall(text: str, answer: str = "") -> str:
    """Return a recall without links, markdown, text from "edit:" or "solved" on, and sentences with the answer.

    Args:
        answer: the content's title, which must not leak into the query.
    """
    text = LINK.sub("", MARKDOWN.sub("", EDIT.split(text)[0]))
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    named = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)", re.IGNORECASE) if answer else None
    return " ".join(one for one in sentences if not (named and named.search(one))).strip()


def read_tot(
    folder: str, fewest: int = FEWEST_WORDS, captioner: Captioner | None = None
) -> tuple[list[Content], list[Post]]:
    """Read content and posts; posts of fewer than `fewest` or more than 400 words after cleaning are left out.

    Raises:
        InputError: a post without content or text, or one about content that is not there.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{folder} is no folder", "give the folder with content.jsonl and posts.jsonl")
    items = read_content(str(place / "content.jsonl"), captioner)
    titles = {item.id: item.title for item in items}
    posts = []
    for number, row in read_rows(str(place / "posts.jsonl")):
        post = _post(row, titles, f"{place / 'posts.jsonl'}, row {number}", str(number))
        if fewest <= len(post.recall.split()) <= MOST_WORDS:
            posts.append(post)
    if not posts:
        raise InputError(f"{folder} has no post of {fewest} to {MOST_WORDS} words", "lower --set fewest")
    return items, posts


def _post(row: Any, titles: Mapping[str, str], where: str, number: str) -> Post:
    if not isinstance(row, Mapping) or not isinstance(row.get("body"), str):
        raise InputError(f"{where}: found {short(row)}", "give an object with content and body")
    content = str(row.get("content", ""))
    if content not in titles:
        raise InputError(f"{where}, field 'content': found {short(content)}", "give an id of content.jsonl")
    times = {name: row.get(name) for name in ("created", "solved")}
    if bad := next((n for n, v in times.items() if v is not None and not isinstance(v, int | float)), None):
        raise InputError(f"{where}, field {bad!r}: found {short(row[bad])}", "give seconds since 1970")
    recall = clean_recall(f"{row.get('title', '')} {row['body']}", titles[content])
    return Post(str(row.get("id", number)), content, recall, times["created"], times["solved"])


def item_text(item: Content, *, ocr: bool = True, asr: bool = True, title: bool = False) -> str:
    """Return the searchable text of an item; its title is left out unless asked for, since the query cannot have it."""
    year = item.date[:4]
    parts = [
        item.title if title else "",
        f"A {item.genre}." if item.genre else "",
        f"From {year}." if year else "",
        f"The audio says {item.asr}" if asr and item.asr else "",
    ]
    for number, scene in enumerate(item.scenes, start=1):
        shown = type(scene)(**{**vars(scene), **({} if ocr else {"ocr": ""}), **({} if asr else {"asr": ""})})
        parts.append(verbalised(shown, number))
    return " ".join(filter(None, parts))


def split_by_content(
    items: Sequence[Content], seed: int, shares: tuple[float, float] = (0.8, 0.1)
) -> dict[str, set[str]]:
    """Split ids of content into `train`, `validation` and `test`, so that no item has posts on two sides."""
    ids = sorted(item.id for item in items)
    random.Random(stream_seed(seed, "content")).shuffle(ids)
    first, second = (round(len(ids) * share) for share in (shares[0], sum(shares)))
    return {"train": set(ids[:first]), "validation": set(ids[first:second]), "test": set(ids[second:])}
