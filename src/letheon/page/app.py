"""The site as a FastAPI application."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from letheon import __version__
from letheon.page import feeds, subscriptions
from letheon.page.security import HOSTS, Guard, check_token
from letheon.page.shelf import Shelf
from letheon.page.site import Site

STATIC = Path(__file__).parent / "static"
# (router, links that it adds to the top of each page); another room of the site adds its line.
ROUTERS: list[tuple[APIRouter, list[tuple[str, str]]]] = [
    (feeds.router, []),
    (subscriptions.router, [("Subscribe", "/subscribe")]),
]


def create_app(shelf: Shelf, folders: Sequence[Path] = (), hosts: Sequence[str] = ()) -> FastAPI:
    """Make the site.

    Args:
        shelf: the reader's file.
        folders: folders whose runs the site shows.
        hosts: further names under which the site answers, beside this machine's loopback names.
    """
    app = FastAPI(
        title="Letheon",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(check_token)],
    )
    app.state.site = Site(shelf, [Path(folder).resolve() for folder in folders])
    for router, nav in ROUTERS:
        app.include_router(router)
        app.state.site.nav += nav
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Guard, hosts=HOSTS | frozenset(hosts))
    return app
