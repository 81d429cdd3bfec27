"""The newest papers as an Atom feed and a JSON feed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from letheon.page.entries import Entry
from letheon.page.site import Here
from letheon.report.safe_text import visible

NEWEST = 50  # entries of a feed
ATOM = "http://www.w3.org/2005/Atom"
TITLE = "Letheon: papers"
router = APIRouter()


@router.get("/feed.atom", include_in_schema=False)
def atom_feed(request: Request, site: Here) -> Response:
    """Answer with the Atom feed."""
    return Response(atom(site.shelf.entries(), _root(request)), media_type="application/atom+xml")


@router.get("/feed.json", include_in_schema=False)
def json_feed(request: Request, site: Here) -> JSONResponse:
    """Answer with the JSON feed."""
    return JSONResponse(json_items(site.shelf.entries(), _root(request)), media_type="application/feed+json")


def newest(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with a date, the latest first."""
    return sorted((entry for entry in entries if entry.date), key=lambda entry: _moment(entry.date), reverse=True)[
        :NEWEST
    ]


def atom(entries: Sequence[Entry], site: str) -> bytes:
    """Write an Atom feed (RFC 4287).

    Args:
        entries: the papers.
        site: address of the page, without a slash at its end.
    """
    chosen = newest(entries)
    feed = Element("feed", xmlns=ATOM)
    SubElement(feed, "title").text = TITLE
    SubElement(feed, "id").text = f"{site}/"
    SubElement(feed, "updated").text = _moment(chosen[0].date) if chosen else "1970-01-01T00:00:00Z"
    SubElement(SubElement(feed, "author"), "name").text = "Letheon"
    SubElement(feed, "link", href=f"{site}/")
    SubElement(feed, "link", href=f"{site}/feed.atom", rel="self")
    for entry in chosen:
        item = SubElement(feed, "entry")
        SubElement(item, "title").text = _text(entry.title)
        SubElement(item, "id").text = f"{site}/papers/{entry.key}"
        SubElement(item, "updated").text = _moment(entry.date)
        SubElement(item, "link", href=f"{site}/papers/{entry.key}")
        for name in entry.authors:
            SubElement(SubElement(item, "author"), "name").text = _text(name)
        SubElement(item, "summary").text = _text(entry.abstract)
        SubElement(item, "category", term=entry.standing or entry.badge)
    return tostring(feed, encoding="utf-8", xml_declaration=True)


def json_items(entries: Sequence[Entry], site: str) -> dict[str, Any]:
    """Return a JSON feed (version 1.1)."""
    return {
        "version": "https://jsonfeed.org/version/1.1",
        "title": TITLE,
        "home_page_url": f"{site}/",
        "feed_url": f"{site}/feed.json",
        "items": [
            {
                "id": f"{site}/papers/{entry.key}",
                "url": f"{site}/papers/{entry.key}",
                "title": _text(entry.title),
                "content_text": _text(entry.abstract) or _text(entry.title),
                "date_published": _moment(entry.date),
                "authors": [{"name": _text(name)} for name in entry.authors],
                "tags": [tag for tag in (entry.wing, entry.badge, entry.standing) if tag],
            }
            for entry in newest(entries)
        ],
    }


def _moment(day: str) -> str:
    """Complete an ISO date of any exactness to a time."""
    return f"{(day + '-01-01' if len(day) == 4 else day + '-01' if len(day) == 7 else day)[:10]}T00:00:00Z"


def _text(text: str) -> str:
    """Replace what XML cannot hold or a reader would act on."""
    return re.sub(r"[\ufffe\uffff]", "\ufffd", visible(text))


def _root(request: Request) -> str:
    return str(request.base_url).rstrip("/")
