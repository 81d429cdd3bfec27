"""The feeds of the running site."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from letheon.page.feeds import atom, json_items
from letheon.page.links import Links
from letheon.page.site import Here

router = APIRouter(include_in_schema=False)


@router.get("/feed.atom")
def atom_feed(request: Request, site: Here) -> Response:
    """Answer with the Atom feed."""
    return Response(atom(site.shelf.entries(), Links(str(request.base_url))), media_type="application/atom+xml")


@router.get("/feed.json")
def json_feed(request: Request, site: Here) -> JSONResponse:
    """Answer with the JSON feed."""
    found = json_items(site.shelf.entries(), Links(str(request.base_url)))
    return JSONResponse(found, media_type="application/feed+json")
