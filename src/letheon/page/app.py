"""The site as a FastAPI application."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.gzip import GZipMiddleware

from letheon import __version__
from letheon.core.errors import LetheonError
from letheon.page.library import Library
from letheon.page.queue import Queue
from letheon.page.routes import api, feeds, finding, importing, papers, runs, studio, subscriptions
from letheon.page.security import HOSTS, Guard, check_token
from letheon.page.shelf import Shelf
from letheon.page.site import Site, show

STATIC = Path(__file__).parent / "static"
# (router, links that it adds to the top of each page); another room of the site adds its line.
ROUTERS: list[tuple[APIRouter, list[tuple[str, str]]]] = [
    (papers.router, papers.NAV),
    (finding.router, []),
    (runs.router, []),
    (api.router, []),
    (importing.router, [("Import", "/import")]),
    (studio.router, [("Studio", "/studio")]),
    (subscriptions.router, [("Subscribe", "/subscribe")]),
    (feeds.router, []),
]


def create_app(
    shelf: Shelf,
    folders: Sequence[Path] = (),
    hosts: Sequence[str] = (),
    embedder: str = "minilm",
    cache: Path | None = None,
) -> FastAPI:
    """Make the site; its queue works while the application runs.

    Args:
        shelf: the reader's file; folders of runs are made beside it.
        folders: folders whose runs the site shows.
        hosts: further names under which the site answers, beside this machine's loopback names.
        embedder: name of an embedder of `letheon.recall.embedders`; `words` searches by words alone.
        cache: folder in which vectors are stored; by default the folder of the shelf.
    """
    queue = Queue(shelf, shelf.path.parent / f"{shelf.path.stem}-runs")
    library = Library(shelf, embedder, cache or shelf.path.parent)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue.open()
        library.now()
        yield
        queue.close()

    app = FastAPI(
        title="Letheon's papers",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(check_token)],
        lifespan=lifespan,
    )
    app.state.site = Site(shelf, library, queue, [Path(folder).resolve() for folder in folders])
    for router, nav in ROUTERS:
        app.include_router(router)
        app.state.site.nav += nav
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(Guard, hosts=HOSTS | frozenset(hosts))
    app.add_exception_handler(StarletteHTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(LetheonError, _refuse)
    app.add_exception_handler(sqlite3.OperationalError, _refuse)
    return app


def _refuse(request: Request, error: Exception) -> Response:
    """Answer with a page that says what was wrong and what to do; in JSON under `/api/`."""
    status, problem, remedy = 400, "The address or the form has a value that cannot be read.", ""
    if isinstance(error, StarletteHTTPException):
        status, problem = error.status_code, "There is no such page." if error.detail == "Not Found" else error.detail
    elif isinstance(error, sqlite3.OperationalError):
        status, problem, remedy = 503, f"The reader's file cannot be used just now ({error}).", "Try again in a moment."
    elif isinstance(error, LetheonError):
        problem, remedy = error.problem, error.remedy
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": {"problem": problem, "remedy": remedy}}, status)
    return show(request, "refused.html.j2", status, problem=problem, remedy=remedy)
