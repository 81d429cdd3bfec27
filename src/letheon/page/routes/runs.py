"""Runs: start a paper, follow it, cancel it, start it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from letheon.core.errors import InputError
from letheon.page.details import details, record_of
from letheon.page.queue import Run
from letheon.page.routes.papers import entry_of
from letheon.page.site import Here, Site, show
from letheon.papers.outcome import MODEL
from letheon.report.safe_text import duration, visible

router = APIRouter(include_in_schema=False)
EVENT_SECONDS = 1.0
MOST_SEEDS = 100
Number = Annotated[int, Path(ge=0, le=2**62)]


@router.post("/papers/{key}/run")
def start(
    site: Here,
    key: str,
    scale: Annotated[str, Form()] = "fast",
    seeds: Annotated[int, Form(ge=0, le=MOST_SEEDS)] = 0,
    model: Annotated[str, Form(max_length=500)] = MODEL,
) -> Response:
    """Put a paper's run into the queue, on another model than the recorded one where the claim allows it."""
    if not entry_of(site, key).ours or not details(key).runnable:
        raise HTTPException(404, "This paper cannot be run yet.")
    if scale not in details(key).facts["scales"]:
        raise HTTPException(400, f"This paper has no {scale} scale.")
    arguments = ["papers", "run", key, f"--{scale}", "--seeds", str(seeds), "--out", "FOLDER/out", "--json"]
    if model != MODEL:
        arguments += ["--model", _model(site, key, scale, model)]
    return RedirectResponse(f"/runs/{site.queue.add('paper', key, arguments)}", 303)


def _model(site: Site, key: str, scale: str, name: str) -> str:
    """What `letheon.load` takes for a model that the form names.

    Raises:
        HTTPException: 400, where the scale measures no pretrained model, or the form does not offer this one.
    """
    if scale not in details(key).facts["pretrained"]:
        raise HTTPException(400, f"At the {scale} scale this paper trains models of its own: it takes no other.")
    known = site.models()
    if name not in known:
        raise HTTPException(400, "The form names a model that is not offered.")
    return known[name]


@router.get("/runs")
def runs(request: Request, site: Here) -> HTMLResponse:
    """Show the queue and the runs that are over."""
    return show(request, "runs.html.j2", runs=site.queue.runs())


@router.get("/runs/{number}")
def run(request: Request, site: Here, number: Number) -> HTMLResponse:
    """Show one run: its progress and log, and the new outcome beside the recorded one."""
    one = run_of(site, number)
    about = details(one.subject) if one.kind == "paper" else None
    return show(request, "run.html.j2", run=one, details=about, new=record_of(one.outcome()))


@router.get("/runs/{number}/events")
def events(request: Request, site: Here, number: Number) -> StreamingResponse:
    """Send the state, the progress and the log of a run as server-sent events until it is over."""
    run_of(site, number)

    async def lines() -> AsyncIterator[str]:
        last = ""
        while not await request.is_disconnected():
            text, over = await run_in_threadpool(_event, site, number)
            if text != last:
                last = text
                yield f"data: {text}\n\n"
            if over:
                return
            await asyncio.sleep(EVENT_SECONDS)

    return StreamingResponse(lines(), media_type="text/event-stream")


def _event(site: Site, number: int) -> tuple[str, bool]:
    """The present state of a run as JSON, and whether it is over."""
    one = site.queue.run(number)
    words, done, total = one.progress()
    told = {"state": one.state, "words": visible(words), "done": done, "total": total, "log": visible(one.log())}
    told["took"] = duration(one.seconds) if one.started else ""
    return json.dumps(told), one.over


@router.post("/runs/{number}/cancel")
def cancel(site: Here, number: Number) -> Response:
    """End a run."""
    run_of(site, number)
    site.queue.cancel(number)
    return RedirectResponse(f"/runs/{number}", 303)


@router.post("/runs/{number}/again")
def again(site: Here, number: Number) -> Response:
    """Put a run that is over into the queue once more."""
    run_of(site, number)
    return RedirectResponse(f"/runs/{site.queue.again(number)}", 303)


def run_of(site: Here, number: Number) -> Run:
    """The run with this number.

    Raises:
        HTTPException: 404.
    """
    try:
        return site.queue.run(number)
    except InputError:
        raise HTTPException(404, "There is no such run.") from None
