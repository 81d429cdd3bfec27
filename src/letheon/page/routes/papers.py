"""The list of papers, one paper, its code, and the reader's marks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from letheon.page.details import details
from letheon.page.entries import Entry
from letheon.page.history import history_of
from letheon.page.listing import BADGES, SORTS, VERDICTS, Filters, list_entries
from letheon.page.shelf import Mark
from letheon.page.site import Here, show

router = APIRouter(include_in_schema=False)
NAV = [("Papers", "/"), ("Search", "/search"), ("Map", "/map"), ("Runs", "/runs"), ("API", "/api")]
ORDERS: dict[str, Any] = {"verdicts": VERDICTS, "badges": BADGES}
Value = Annotated[str, Query(max_length=100)]


@router.get("/")
def papers(
    request: Request,
    site: Here,
    wing: Value = "",
    badge: Value = "",
    verdict: Value = "",
    year: Value = "",
    quick: Value = "",
    mine: Value = "",
    sort: Value = "newest",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> HTMLResponse:
    """Show the list of papers, grouped by day."""
    filters = Filters(wing, badge, verdict, year, quick, mine, sort, page)
    marks = site.shelf.marks()
    listing = list_entries(site.library.now().entries, filters, marks)
    return show(request, "list.html.j2", filters=filters, listing=listing, marks=marks, sorts=SORTS, **ORDERS)


@router.get("/papers/{key}")
def paper(request: Request, site: Here, key: str) -> HTMLResponse:
    """Show one paper."""
    entry = entry_of(site, key)
    about = details(key) if entry.ours else None
    return show(
        request,
        "paper.html.j2",
        entry=entry,
        mark=site.shelf.marks().get(key, Mark()),
        details=about,
        models=list(site.models()) if about and about.facts["pretrained"] else [],
        like=site.library.now().like(key),
        history=history_of(key, site.queue, site.folders),
    )


@router.get("/papers/{key}/code")
def code(request: Request, site: Here, key: str) -> HTMLResponse:
    """Show the source files of a paper's method and reproduction."""
    entry = entry_of(site, key)
    if not entry.ours:
        raise HTTPException(404, "This paper has no code yet.")
    return show(request, "code.html.j2", entry=entry, files=details(key).files)


Back = Annotated[str, Form(max_length=2000)]


@router.post("/papers/{key}/marks")
def mark(
    request: Request,
    site: Here,
    key: str,
    starred: Annotated[str, Form()] = "",
    later: Annotated[str, Form()] = "",
    back: Back = "",
) -> Response:
    """Give or take a star, put a paper on the reading list or take it off: `on` or `off`."""
    entry = entry_of(site, key)
    if starred:
        site.shelf.star(key, starred == "on")
    if later:
        site.shelf.list_later(key, later == "on")
    if request.headers.get("HX-Request"):
        marked = site.shelf.marks().get(key, Mark())
        return show(request, "marks.html.j2", entry=entry, mark=marked, back=local(back, key))
    return RedirectResponse(local(back, key), 303)


@router.post("/papers/{key}/note")
def note(site: Here, key: str, text: Annotated[str, Form()] = "") -> Response:
    """Write the note on a paper."""
    entry_of(site, key)
    site.shelf.note(key, text.strip().replace("\r\n", "\n"))
    return RedirectResponse(f"/papers/{key}#note", 303)


def entry_of(site: Here, key: str) -> Entry:
    """The paper with this key.

    Raises:
        HTTPException: 404.
    """
    entry = site.shelf.entry(key)
    if entry is None:
        raise HTTPException(404, "There is no such paper.")
    return entry


def local(address: str, key: str) -> str:
    """An address of this site; the paper's own page where the given one leads elsewhere."""
    safe = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if safe else f"/papers/{key}"
