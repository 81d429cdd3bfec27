"""The search and the map."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from letheon.page.chart import LISTED, chart_of
from letheon.page.site import Here, show

router = APIRouter(include_in_schema=False)
HITS = 40
Text = Annotated[str, Query(max_length=400)]


@router.get("/search")
def search(request: Request, site: Here, q: Text = "") -> HTMLResponse:
    """Show the papers that answer a search."""
    snapshot = site.library.now()
    answer = snapshot.search(q, HITS) if q.strip() else None
    return show(request, "search.html.j2", q=q, answer=answer, marks=site.shelf.marks(), total=len(snapshot.entries))


@router.get("/map")
def papers_map(request: Request, site: Here) -> HTMLResponse:
    """Show all papers in two dimensions by meaning."""
    snapshot = site.library.now()
    chart = None if snapshot.positions is None else chart_of(snapshot.entries, snapshot.positions)
    by_meaning = snapshot.meaning is not None and snapshot.meaning.by_meaning
    said: dict[str, Any] = {"note": snapshot.note, "failed": snapshot.failed, "listed": LISTED}
    return show(request, "map.html.j2", chart=chart, by_meaning=by_meaning, **said)
