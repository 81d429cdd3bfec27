"""The feeds of the running site and of the static pages: they parse, lead to pages, and name each paper the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import urljoin
from uuid import UUID
from xml.etree import ElementTree

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from letheon.cli import main
from letheon.core.errors import InputError
from letheon.page import meaning
from letheon.page.build import build
from letheon.page.entries import Entry, catalogue_entries
from letheon.page.feeds import NEWEST, atom, json_items, lasting_id
from letheon.page.library import Library
from letheon.page.links import Links, check_site
from letheon.page.shelf import Shelf

NAME = "{http://www.w3.org/2005/Atom}"
NOVA = Entry("nova", "Nova \x00\x1b & <b>", ("A & B",), date="2999-01-02", abstract="Said \u202e so.")


def check_atom(content: bytes) -> ElementTree.Element:
    """Parse an Atom feed and see that it has what RFC 4287 asks for."""
    feed = ElementTree.fromstring(content)
    for element in (feed, *feed.findall(f"{NAME}entry")):
        for required in ("id", "title", "updated"):
            assert len(element.findall(f"{NAME}{required}")) == 1, required
        identifier = element.findtext(f"{NAME}id") or ""
        assert UUID(identifier.removeprefix("urn:uuid:"))
        assert element.findtext(f"{NAME}updated", "").endswith("T00:00:00Z")
    ids = [element.text for element in feed.iter(f"{NAME}id")]
    assert len(set(ids)) == len(ids)
    assert feed.find(f"{NAME}author/{NAME}name") is not None
    return feed


def links(feed: ElementTree.Element) -> dict[str, str]:
    return {
        item.findtext(f"{NAME}id", ""): item.find(f"{NAME}link").attrib["href"] for item in feed.iter(f"{NAME}entry")
    }  # type: ignore[union-attr]


def test_the_running_site_has_both(shelf: Shelf, client: TestClient) -> None:
    shelf.add([NOVA])
    answer = client.get("/feed.atom")
    assert answer.headers["content-type"].startswith("application/atom+xml")
    feed = check_atom(answer.content)
    (first, *_), number = feed.findall(f"{NAME}entry"), len(feed.findall(f"{NAME}entry"))
    assert number == NEWEST
    assert first.findtext(f"{NAME}title") == "Nova ␀␛ & <b>"
    assert first.findtext(f"{NAME}updated") == "2999-01-02T00:00:00Z"
    assert feed.find(f"{NAME}link[@rel='self']").attrib["href"] == "http://127.0.0.1:8457/feed.atom"  # type: ignore[union-attr]
    items = client.get("/feed.json").json()
    assert items["version"] == "https://jsonfeed.org/version/1.1"
    assert items["feed_url"] == "http://127.0.0.1:8457/feed.json"
    assert items["items"][0]["url"] == "http://127.0.0.1:8457/papers/nova"
    assert {item["id"]: item["url"] for item in items["items"]} == links(feed)
    for address in ("/", "/papers/gu", "/map"):
        assert 'type="application/atom+xml" title="Papers" href="/feed.atom"' in client.get(address).text


def test_an_empty_one_is_one_too() -> None:
    assert check_atom(atom([], Links("http://h/")))
    assert json_items([], Links("http://h/"))["items"] == []


@pytest.mark.parametrize("address", ["", "https://example.org/papers"])
def test_the_static_pages_have_both(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(meaning, "layout", lambda vectors: abs(vectors[:, :2]))
    monkeypatch.setattr(shelf, "entries", lambda: [NOVA, *catalogue_entries()[:2]])
    site = build(Library(shelf, "words", tmp_path), tmp_path / "site", address).folder
    feed = check_atom((site / "feed.atom").read_bytes())
    items = json.loads((site / "feed.json").read_text(encoding="utf-8"))
    assert {item["id"]: item["url"] for item in items["items"]} == links(feed)
    assert ("home_page_url" in items) == bool(address)
    root = f"{address or 'file:///any/where'}/"
    for link in (*links(feed).values(), *(one.attrib["href"] for one in feed.findall(f"{NAME}link"))):
        assert link.startswith(address)
        place = urljoin(f"{root}feed.atom", link)
        assert (site / place.removeprefix(root)).is_file()
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        for kind in ("atom", "json"):
            assert f'title="Papers" href="{up}feed.{kind}"' in page.read_text(encoding="utf-8"), page


def test_a_paper_keeps_its_identifier_wherever_it_is_read() -> None:
    entries = [NOVA, *catalogue_entries()[:3]]
    here, there = (
        check_atom(atom(entries, Links(root, suffix))) for root, suffix in (("http://h/", ""), ("", ".html"))
    )
    assert list(links(here)) == list(links(there))


@pytest.mark.parametrize(
    "wrong", ["example.org", "https://", "ftp://h", "https://h/ x", 'https://h/"', "https://h/?a", "https://ä"]
)
def test_an_address_is_checked(wrong: str) -> None:
    with pytest.raises(InputError, match=r"--address .* is no address"):
        check_site(wrong, "--address")


def test_an_address_without_static_files_is_refused(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["letheon", "page", "--address", "https://h", "--shelf", str(tmp_path / "s")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--build FOLDER" in capsys.readouterr().err


def test_papers_of_one_key_differ_between_sites_and_what_is_no_date_is_never() -> None:
    papers = [Entry("mem", "Mem: one"), Entry("mem", "Mem: another"), Entry("mem", "Mem: one", arxiv="2501.00001")]
    assert len({lasting_id(paper) for paper in papers}) == 3
    assert lasting_id(papers[0]) == lasting_id(Entry("elsewhere", "MEM:  one"))
    sites = [Links("https://a.example/"), Links("https://b.example/")]
    assert len({check_atom(atom([NOVA], site)).findtext(f"{NAME}id") for site in sites}) == 2
    wrong = Entry("wrong", "Wrong", date="2026-13")
    assert check_atom(atom([wrong], sites[0])).findtext(f"{NAME}updated") == "1970-01-01T00:00:00Z"
