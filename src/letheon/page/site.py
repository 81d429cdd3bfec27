"""What the routes share: the shelf, the served folders, and how a template becomes an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment
from markupsafe import Markup, escape

from letheon.page.library import Library
from letheon.page.links import LIVE
from letheon.page.listing import day_of
from letheon.page.queue import Queue
from letheon.page.security import COOKIE, token_of
from letheon.page.shelf import Shelf
from letheon.page.studio import models
from letheon.report.html import environment
from letheon.report.safe_text import visible

PACKAGE = "letheon.page"


@dataclass
class Site:
    """The parts of a running site.

    Attributes:
        shelf: the reader's file.
        library: its papers with their indexes.
        queue: the runs.
        folders: folders named at the start; no other is seen.
        nav: the links at the top of each page, (text, address).
    """

    shelf: Shelf
    library: Library
    queue: Queue
    folders: Sequence[Path] = ()
    nav: list[tuple[str, str]] = field(default_factory=list)

    def models(self) -> dict[str, str]:
        """The models that a form may name: a name for the form -> what `letheon.load` takes."""
        return models(self.folders, [run.folder for run in self.queue.runs("forget") if run.state == "done"])


def draw(template: str, **values: Any) -> str:
    """Render `templates/TEMPLATE` of this package."""
    return _environment().get_template(f"templates/{template}").render(**values)


@cache
def _environment() -> Environment:
    """The environment of reports with two filters more: a date in words, and text with its code marked."""
    pages = environment(PACKAGE).overlay()
    pages.filters = {**pages.filters, "day": day_of, "code": code}
    return pages


def code(text: str) -> Markup:
    """Escape a text; what stands between backticks becomes code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(visible(text)))))


def site_of(request: Request) -> Site:
    """The site that a request belongs to."""
    site: Site = request.app.state.site
    return site


Here = Annotated[Site, Depends(site_of)]


def show(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render `templates/TEMPLATE` as the answer to a request; it knows `token`, `nav`, `path`, `here` and `to`."""
    token = token_of(request)
    here = f"{request.url.path}?{request.url.query}".rstrip("?")
    shared = {
        "here": here,
        "token": token,
        "nav": site_of(request).nav,
        "path": request.url.path,
        "to": LIVE,
        "live": True,
    }
    response = HTMLResponse(draw(template, **{**shared, **values}), status)
    if request.cookies.get(COOKIE) != token:
        response.set_cookie(COOKIE, token, samesite="strict", httponly=True)
    return response
