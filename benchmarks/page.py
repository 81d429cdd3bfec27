"""The page of papers: how fast it lists and searches, and how large its pages are.

    python -m benchmarks.page [--json] [--repeats N] [--papers N]

`list_ms` is the time of the first page of the list, from the request to its last byte, inside one process. `search_ms`
is the median time of a search among `--papers` papers (invented ones beside the catalogue) by words and by meaning:
its vectors are one precomputed matrix, searches are new to it, and embedding the search itself (`embed_ms`, once per
search) is part of it where MiniLM is at hand. `search_cpu_ms` is the mean processor time of a search, which other
processes do not lengthen. `page_kb` is the largest page without figures, styles and scripts;
`sent_kb` is what a browser receives for the first page with styles and scripts, compressed.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from benchmarks.common import begin, parser, say
from letheon.core.errors import LetheonError
from letheon.page.app import create_app
from letheon.page.entries import Entry, catalogue_entries
from letheon.page.library import Library, Snapshot
from letheon.page.meaning import Meaning, embedder_of
from letheon.page.shelf import Shelf
from letheon.page.words import Words, words_of
from letheon.printing.cells import print_json
from letheon.recall.embedders import Embedder, unit

PAGES = ("/", "/papers/gu", "/papers/uer", "/papers/gu/code", "/search?q=unlearning", "/map", "/runs", "/api")
WORDS_PER_ABSTRACT = 120
INVENTED = 20_000  # words beside those of the catalogue
FIELDS = ("", "", "year:2025 ", "verdict:fails ", "author:conde ")


def papers(count: int) -> list[Entry]:
    """The catalogue, and invented papers of its words and of further ones, rare words being rare."""
    draw = random.Random(0)
    texts = [f"{entry.title} {entry.abstract}" for entry in catalogue_entries()]
    known = [word for text in texts for word in words_of(text)]
    rare = ["".join(draw.choices("aeioulmnrstkdp", k=draw.randint(4, 10))) for _ in range(INVENTED)]
    entries = list(catalogue_entries())
    for number in range(count - len(entries)):
        words = draw.choices(known, k=WORDS_PER_ABSTRACT) + [
            rare[int(INVENTED * draw.random() ** 3)] for _ in range(20)
        ]
        draw.shuffle(words)
        date = f"{draw.randint(2015, 2026)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
        title = " ".join(words[:8]).capitalize()
        entries.append(Entry(f"p{number}", title, (words[9],), 1, date, abstract=" ".join(words), source="invented"))
    return entries


def searches(count: int) -> list[str]:
    """Searches of one to four words of the catalogue, some misspelt, some with a field."""
    draw = random.Random(1)
    known = [word for entry in catalogue_entries() for word in words_of(entry.title) if len(word) > 3]
    made = []
    for _ in range(count):
        words = draw.sample(known, draw.randint(1, 4))
        if draw.random() < 0.4:
            place = draw.randrange(1, len(words[0]) - 1)
            words[0] = words[0][:place] + words[0][place + 1 :]
        made.append(draw.choice(FIELDS) + " ".join(words))
    return made


class Stored:
    """An embedder whose vectors of papers are random, since only their number matters; searches are embedded."""

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.width, self.embedder = f"random-{embedder.name}", embedder.width, embedder

    def embed(self, texts: list[str]) -> Any:
        """Return one unit vector per text [texts, width]."""
        if len(texts) == 1:
            return self.embedder.embed(texts)
        draw = np.random.default_rng(0)
        return unit(draw.standard_normal((len(texts), self.width)).astype(np.float32))


def milliseconds(work: Callable[..., object], *arguments: object) -> float:
    """Time one call, in milliseconds."""
    start = time.perf_counter()
    work(*arguments)
    return 1000 * (time.perf_counter() - start)


def measured_search(count: int, repeats: int) -> dict[str, Any]:
    """Search among `count` papers; return the medians and the 95th percentile of the time."""
    entries = papers(count)
    snapshot = Snapshot(0, entries, Words(entries), note="")
    facts: dict[str, float] = {}
    try:
        minilm = embedder_of("minilm")
        snapshot.meaning = Meaning(entries, Stored(minilm))
        facts["embed_ms"] = statistics.median(milliseconds(minilm.embed, [text]) for text in searches(repeats))
    except LetheonError as error:
        say(f"by words alone: {error.problem}")
    used = time.process_time()
    times = sorted(milliseconds(snapshot.search, text) for text in searches(10 * repeats)[repeats:])
    facts["search_cpu_ms"] = 1000 * (time.process_time() - used) / len(times)
    return {"search_ms": statistics.median(times), "search_p95_ms": times[int(0.95 * len(times))], **facts}


def measured_pages(repeats: int) -> dict[str, float]:
    """Ask for the pages of the site; return the time of the list and the sizes."""
    Library._embed = lambda self, snapshot: None  # type: ignore[method-assign]  # the thread would share the processor
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Shelf(Path(folder) / "page.sqlite"))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            client.get("/")
            times = [milliseconds(client.get, "/") for _ in range(3 * repeats)]
            sizes = {address: len(client.get(address).content) for address in PAGES}
            files = ["/", "/static/page.css", "/static/page.js", "/static/htmx.min.js"]
            sent = sum(int(client.get(name).headers["content-length"]) for name in files)
    return {"list_ms": statistics.median(times), "page_kb": max(sizes.values()) / 1000, "sent_kb": sent / 1000}


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--papers", type=int, default=10_000, help="papers to search (default 10,000)")
    chosen = options.parse_args()
    begin(chosen)
    values = {
        **measured_pages(chosen.repeats),
        **measured_search(chosen.papers, chosen.repeats),
        "papers": chosen.papers,
    }
    rounded = {name: round(value, 1) for name, value in values.items()}
    if chosen.json:
        print_json(rounded)
    else:
        for name, value in rounded.items():
            print(f"{name:<14} {value:,}")


if __name__ == "__main__":
    main()
