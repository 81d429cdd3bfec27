"""The newest papers as an Atom feed (RFC 4287) and a JSON feed (version 1.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from xml.etree.ElementTree import Element, SubElement, tostring

from letheon.page.entries import Entry
from letheon.page.links import Links
from letheon.report.safe_text import visible

NEWEST = 50  # entries of a feed
NAMESPACE = "http://www.w3.org/2005/Atom"
TITLE = "Letheon: papers"
NEVER = "1970-01-01T00:00:00Z"


def newest(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with a date, the latest first."""
    dated = (entry for entry in entries if entry.date)
    return sorted(dated, key=lambda entry: _moment(entry.date), reverse=True)[:NEWEST]


def atom(entries: Sequence[Entry], to: Links) -> bytes:
    """Write an Atom feed.

    Args:
        entries: the papers.
        to: the addresses of the pages; relative ones are resolved by the address that the feed is read from.
    """
    chosen = newest(entries)
    feed = Element("feed", xmlns=NAMESPACE)
    SubElement(feed, "title").text = TITLE
    SubElement(feed, "id").text = _urn(f"feed of {to.root}")
    SubElement(feed, "updated").text = _moment(chosen[0].date) if chosen else NEVER
    SubElement(SubElement(feed, "author"), "name").text = "Letheon"
    SubElement(feed, "link", href=to.home())
    SubElement(feed, "link", href=to.feed("atom"), rel="self")
    for entry in chosen:
        item = SubElement(feed, "entry")
        SubElement(item, "title").text = _text(entry.title)
        SubElement(item, "id").text = lasting_id(entry)
        SubElement(item, "updated").text = _moment(entry.date)
        SubElement(item, "link", href=to.page(f"papers/{entry.key}"))
        for name in entry.authors:
            SubElement(SubElement(item, "author"), "name").text = _text(name)
        SubElement(item, "summary").text = _text(entry.abstract)
        SubElement(item, "category", term=entry.standing or entry.badge)
    return tostring(feed, encoding="utf-8", xml_declaration=True)


def json_items(entries: Sequence[Entry], to: Links) -> dict[str, Any]:
    """Return a JSON feed; it names its own address and that of the site only where they are absolute."""
    absolute = {"home_page_url": to.home(), "feed_url": to.feed("json")} if "://" in to.root else {}
    return {
        "version": "https://jsonfeed.org/version/1.1",
        "title": TITLE,
        **absolute,
        "items": [
            {
                "id": lasting_id(entry),
                "url": to.page(f"papers/{entry.key}"),
                "title": _text(entry.title),
                "content_text": _text(entry.abstract) or _text(entry.title),
                "date_published": _moment(entry.date),
                "authors": [{"name": _text(name)} for name in entry.authors],
                "tags": [tag for tag in (entry.wing, entry.badge, entry.standing) if tag],
            }
            for entry in newest(entries)
        ],
    }


def lasting_id(entry: Entry) -> str:
    """Return the identifier of a paper, the same on every site and after every move: of its arXiv number or title.

    Imported papers of two sites may share a key.
    """
    return _urn(f"papers/{entry.arxiv or ' '.join(entry.title.casefold().split())}")


def _urn(name: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'letheon:{name}')}"


def _moment(day: str) -> str:
    """Complete an ISO date of any exactness to a time; what is no date becomes that of feeds without entries."""
    whole = (day + "-01-01" if len(day) == 4 else day + "-01" if len(day) == 7 else day)[:10]
    try:
        return f"{date.fromisoformat(whole)}T00:00:00Z"
    except ValueError:
        return NEVER


def _text(text: str) -> str:
    """Replace what XML cannot hold or a reader would act on."""
    return re.sub(r"[\ufffe\uffff]", "\ufffd", visible(text))
