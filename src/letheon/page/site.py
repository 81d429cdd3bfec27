"""What the routes share: the shelf, the served folders, and how a template becomes an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse

from letheon.page.links import LIVE
from letheon.page.security import COOKIE, token_of
from letheon.page.shelf import Shelf
from letheon.report.html import render

PACKAGE = "letheon.page"


@dataclass
class Site:
    """The parts of a running site.

    Attributes:
        shelf: the reader's file.
        folders: folders named at the start; no other is seen.
        nav: the links at the top of each page, (text, address).
    """

    shelf: Shelf
    folders: Sequence[Path] = ()
    nav: list[tuple[str, str]] = field(default_factory=list)


def site_of(request: Request) -> Site:
    """The site that a request belongs to."""
    site: Site = request.app.state.site
    return site


Here = Annotated[Site, Depends(site_of)]


def show(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render `templates/TEMPLATE` as the answer to a request; the template knows `token`, `nav`, `path` and `to`."""
    token = token_of(request)
    shared = {"token": token, "nav": site_of(request).nav, "path": request.url.path, "to": LIVE, "live": True}
    response = HTMLResponse(render(PACKAGE, f"templates/{template}", **{**shared, **values}), status)
    if request.cookies.get(COOKIE) != token:
        response.set_cookie(COOKIE, token, samesite="strict", httponly=True)
    return response
