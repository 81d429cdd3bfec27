"""The pages as static files, for any web server: list, papers, code, map, and a search whose index is in its page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from letheon.core.atomic import atomic_write_bytes, atomic_write_text, check_writable
from letheon.core.errors import LetheonError
from letheon.page.chart import LISTED, chart_of
from letheon.page.details import details
from letheon.page.entries import Entry
from letheon.page.feeds import atom, json_items
from letheon.page.library import Library
from letheon.page.links import Links, static_links
from letheon.page.listing import SORTS, Filters, list_entries
from letheon.page.site import draw
from letheon.page.words import words_of

STATIC = Path(__file__).parent / "static"
TITLE, KEY, AUTHOR, ABSTRACT = 6, 6, 4, 1  # how much a word counts in the index


class Built(NamedTuple):
    """What was built: the folder, the number of pages, and the size of the largest one in bytes."""

    folder: Path
    pages: int
    largest: int


def build(library: Library, folder: Path, address: str = "") -> Built:
    """Write all pages and both feeds as files into a folder; files of the same names are replaced.

    Args:
        library: the papers.
        folder: where the files go.
        address: where they will be read, without a slash at its end; empty leaves the links of the feeds relative.

    Raises:
        InputError: the folder cannot be written.
    """
    check_writable(folder)
    snapshot = library.ready()
    pages: dict[str, str] = {}

    def page(name: str, template: str, **values: Any) -> None:
        to = static_links(name.count("/"))
        nav = [("Papers", to.home()), ("Search", to.page("search")), ("Map", to.page("map"))]
        path = to.home() if name == "index" else to.page(name)
        pages[name] = draw(template, to=to, nav=nav, path=path, live=False, token="", **values)

    first = list_entries(snapshot.entries, Filters(), {})
    for number in range(1, first.pages + 1):
        filters = Filters(page=number)
        listing = list_entries(snapshot.entries, filters, {})
        name = "index" if number == 1 else f"list-{number}"
        page(name, "list.html.j2", filters=filters, listing=listing, marks={}, sorts=SORTS)
    for entry in snapshot.entries:
        about = details(entry.key) if entry.ours else None
        like = snapshot.like(entry.key)
        page(f"papers/{entry.key}", "paper.html.j2", entry=entry, mark=None, details=about, like=like, history=[])
        if about is not None:
            page(f"papers/{entry.key}/code", "code.html.j2", entry=entry, files=about.files)
    if snapshot.positions is None or snapshot.meaning is None:
        raise LetheonError(snapshot.note, "see the log; --embedder words needs no model")
    chart = chart_of(snapshot.entries, snapshot.positions)
    said = {"note": snapshot.note, "failed": False, "listed": LISTED}
    page("map", "map.html.j2", chart=chart, by_meaning=snapshot.meaning.by_meaning, **said)
    page("search", "search_static.html.j2", total=len(snapshot.entries), index=index_of(snapshot.entries))
    for name, text in pages.items():
        atomic_write_text(folder / f"{name}.html", text)
    for name in ("page.css", "search.js"):
        atomic_write_bytes(folder / "static" / name, (STATIC / name).read_bytes())
    feeds = Links(f"{address}/" if address else "", ".html")
    atomic_write_bytes(folder / "feed.atom", atom(snapshot.entries, feeds))
    atomic_write_text(folder / "feed.json", json.dumps(json_items(snapshot.entries, feeds), ensure_ascii=False))
    return Built(folder, len(pages), max(len(text.encode()) for text in pages.values()))


def index_of(entries: Sequence[Entry]) -> Markup:
    """The index of the static search as JSON that can stand in a page: papers, and word -> places and weights."""
    words: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for place, entry in enumerate(entries):
        texts = ((entry.title, TITLE), (entry.key, KEY), (" ".join(entry.authors), AUTHOR), (entry.abstract, ABSTRACT))
        for text, weight in texts:
            for word in set(words_of(text)):
                if len(word) > 1:
                    words[word][place] += weight
    papers = [
        {
            "key": entry.key,
            "title": entry.title,
            "authors": ", ".join(entry.authors),
            "year": entry.date[:4],
            "arxiv": entry.arxiv,
            "verdict": entry.standing,
            "badge": entry.badge,
            "wing": entry.wing,
            "source": entry.source,
        }
        for entry in entries
    ]
    flat = {word: [number for pair in sorted(places.items()) for number in pair] for word, places in words.items()}
    text = json.dumps({"papers": papers, "words": flat}, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
