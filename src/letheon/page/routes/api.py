"""The API: papers and search as JSON, the same objects that `letheon papers --json` prints, and their description."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from letheon.page.details import details
from letheon.page.entries import as_json
from letheon.page.site import Here, show

router = APIRouter()
Limit = Annotated[int, Query(ge=1, le=500, description="Largest number of papers.")]


@router.get("/api/papers", summary="All papers")
def papers(site: Here) -> list[dict[str, Any]]:
    """Every paper with key, title, room, badge and verdict, as `letheon papers --json` prints them.

    Imported papers follow; they have further fields, such as abstract and source.
    """
    return [as_json(entry) for entry in site.library.now().entries]


@router.get("/api/papers/{key}", summary="One paper")
def paper(site: Here, key: str) -> dict[str, Any]:
    """One paper with its claim and its recorded result, as `letheon papers show KEY --json` prints it."""
    entry = site.shelf.entry(key)
    if entry is None:
        raise HTTPException(404, "There is no such paper.")
    return details(key).facts if entry.ours else as_json(entry)


@router.get("/api/search", summary="Search")
def search(site: Here, q: Annotated[str, Query(max_length=400)], limit: Limit = 50) -> dict[str, Any]:
    """The papers that answer a search, best first.

    A search has words, `author:NAME`, `year:2025` or `year:2024-2026`, `verdict:fails`, `badge:`, `wing:`, `source:`,
    and arXiv identifiers. `note` says why papers were not searched by meaning; it is empty where they were.
    """
    answer = site.library.now().search(q, limit)
    lines = [as_json(entry) for entry in answer.entries]
    return {"papers": lines, "corrected": answer.corrected, "note": answer.note}


@router.get("/api/openapi.json", include_in_schema=False)
def description(request: Request) -> dict[str, Any]:
    """The OpenAPI description."""
    schema: dict[str, Any] = request.app.openapi()
    return schema


@router.get("/api", include_in_schema=False)
def page(request: Request) -> HTMLResponse:
    """Show the description of the API as a page."""
    return show(request, "api.html.j2", schema=request.app.openapi())
