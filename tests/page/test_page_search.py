"""The search forgives typos and knows its fields; likeness and map come from the vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from letheon.page.chart import FIRST, LISTED, chart_of
from letheon.page.entries import Entry, catalogue_entries
from letheon.page.library import Snapshot
from letheon.page.links import LIVE
from letheon.page.listing import Filters, list_entries
from letheon.page.meaning import Meaning, layout
from letheon.page.query import parse
from letheon.page.site import draw
from letheon.page.words import Words, distance
from letheon.recall.embedders import HashedWords


@pytest.fixture(scope="module")
def papers() -> Snapshot:
    entries = list(catalogue_entries())
    return Snapshot(0, entries, Words(entries))


def keys(papers: Snapshot, text: str) -> list[str]:
    return [entry.key for entry in papers.search(text).entries]


def test_beginnings_of_words_are_enough(papers: Snapshot) -> None:
    assert keys(papers, "hyperatt") == ["hyperattention"]
    assert keys(papers, "gu")[0] == "gu"


@pytest.mark.parametrize("typo", ["hyperatention", "hyperatetntion", "hyyperattention"])
def test_typos_are_forgiven_and_said(papers: Snapshot, typo: str) -> None:
    answer = papers.search(typo)
    assert [entry.key for entry in answer.entries] == ["hyperattention"]
    assert answer.corrected == {typo: "hyperattention"}


def test_a_form_of_a_known_word_is_no_typo(papers: Snapshot) -> None:
    assert papers.search("deleting").corrected == {}


def test_papers_with_all_words_come_first() -> None:
    entries = [Entry("a", "red green"), Entry("b", "blue"), Entry("c", "green blue", abstract="red")]
    first, *others = Words(entries).search(["red", "green", "blue"], 9)
    assert (first, set(others)) == (2, {0, 1})


def test_fields_narrow_and_arxiv_ids_name_one_paper(papers: Snapshot) -> None:
    assert set(keys(papers, "author:conde")) == {"norming", "word-features"}
    fails = {entry.key for entry in papers.entries if entry.standing == "fails*" and entry.date[:4] == "2025"}
    assert set(keys(papers, "verdict:fails* year:2025")) == fails
    assert {entry.date[:4] for entry in papers.search("year:2023-2024").entries} == {"2023", "2024"}
    for text in ("2511.17100", "arXiv:2511.17100v3", "https://arxiv.org/abs/2511.17100"):
        assert keys(papers, text) == ["gu"], text
    assert keys(papers, "2511.99999") == []


def test_a_span_of_years_may_be_open(papers: Snapshot) -> None:
    years = {entry.date[:4] for entry in papers.search("year:2024-").entries}
    assert len(years) > 1
    assert min(years) == "2024"
    assert max(entry.date[:4] for entry in papers.search("year:-2023").entries) == "2023"


def test_verdicts_of_an_earlier_rule_are_asked_for_with_a_star() -> None:
    entries = [Entry("now", "One", verdict="holds"), Entry("old", "Two", verdict="holds", current=False, seconds=None)]
    papers = Snapshot(0, entries, Words(entries))
    assert keys(papers, "verdict:holds") == ["now"]
    assert keys(papers, "verdict:holds*") == ["old"]
    counts = list_entries(entries, Filters(verdict="holds"), {}).counts["verdict"]
    assert counts == {"holds": 1, "holds*": 1}
    assert list_entries(entries, Filters(verdict="holds*"), {}).total == 1


@pytest.mark.parametrize("word", ["cat", "kittens", "blockchain"])
def test_a_word_with_no_near_word_is_not_corrected(word: str) -> None:
    entries = [Entry("a", "A written car on blocks of mountains")]
    assert Words(entries).corrected(word) == word


def test_ten_thousand_papers_have_a_small_map() -> None:
    entries = [*catalogue_entries()]
    entries += [Entry(f"k{i}", f"A paper of the usual length about something or other {i}") for i in range(10_000)]
    chart = chart_of(entries, np.random.default_rng(0).random((len(entries), 2)))
    said = {"by_meaning": True, "note": "", "failed": False, "listed": LISTED}
    shared = {"to": LIVE, "nav": [], "path": "/map", "live": True, "token": ""}
    page = draw("map.html.j2", chart=chart, **said, **shared)
    assert len(page.encode()) < 500_000
    assert f"{FIRST} of {len(entries)} papers are links" in page
    assert '<path class="w-imported" d="M' in page


def test_hostile_searches_are_words(papers: Snapshot) -> None:
    for text in ('" OR 1 --', "NEAR(a b)", "papers MATCH *", "\x00", "((", "author:", 'author:"', "x" * 5000, "year:-"):
        papers.search(text)


def test_queries_are_taken_apart() -> None:
    query = parse('sinks author:"van der Berg" YEAR:2024 arXiv:2404.15574v2 Zürich')
    assert query.fields == (("author", "van der Berg"), ("year", "2024"))
    assert (query.words, query.arxiv) == (("sinks", "zurich"), "2404.15574")


@pytest.mark.parametrize(
    ("one", "other", "edits"), [("ab", "ba", 1), ("kitten", "sitting", 3), ("a", "", 1), ("ca", "abc", 3)]
)
def test_edit_distance(one: str, other: str, edits: int) -> None:
    assert distance(one, other) == edits


class Topics:
    """An embedder that knows two topics."""

    name, width = "topics", 2

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += len(texts)
        vectors = [[1.0, 0.0] if "cat" in text or "feline" in text else [0.0, 1.0] for text in texts]
        return np.array(vectors, dtype=np.float32)


def test_meaning_finds_what_words_do_not(tmp_path) -> None:
    entries = [Entry("stone", "Granite"), Entry("cats", "On cats"), Entry("rock", "Basalt")]
    embedder = Topics()
    papers = Snapshot(0, entries, Words(entries), Meaning(entries, embedder, tmp_path / "v.sqlite"), note="")
    assert keys(papers, "feline") == ["cats"]
    assert [entry.key for entry in papers.like("stone")] == ["rock"]
    asked: list[str] = []
    assert papers.meaning is not None
    papers.meaning.search = lambda text, limit: asked.append(text) or []  # type: ignore[method-assign, func-returns-value]
    papers.search("Granitte, felines? wing:probe")
    assert asked == ["Granitte, felines?"], "the meaning is that of what was typed"
    calls = embedder.calls
    Meaning([*entries, Entry("new", "Marble")], embedder, tmp_path / "v.sqlite")
    assert embedder.calls == calls + 1, "vectors of known texts are read from the cache"


def test_the_map_is_the_same_each_time_and_labels_cover_nothing() -> None:
    entries = catalogue_entries()[:20]
    meaning = Meaning(entries, HashedWords())
    positions = meaning.positions()
    assert np.array_equal(positions, meaning.positions())
    dots = chart_of(entries, positions).dots
    boxes = [(dot.label_x, dot.label_y) for dot in dots if dot.label]
    assert len(boxes) == len(set(boxes)) >= 18
    gaps = [np.hypot(a.x - b.x, a.y - b.y) for i, a in enumerate(dots) for b in dots[:i]]
    assert min(gaps) > 12


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_few_papers_have_places(count: int) -> None:
    places = layout(np.eye(5, dtype=np.float32)[:count])
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
