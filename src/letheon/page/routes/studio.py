"""The studio: what is on the machine, a deletion request by a form, two models side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from letheon.audit.ledger.cases import cases
from letheon.audit.ledger.store import Ledger
from letheon.audit.page.page import render_audit
from letheon.audit.record.record import Audit
from letheon.core.atomic import plain
from letheon.core.errors import InputError, LetheonError
from letheon.page.queue import Run
from letheon.page.security import inside
from letheon.page.side_by_side import LONGEST_ANSWER, LONGEST_PROMPT, Said, answers
from letheon.page.site import Here, Site, show
from letheon.page.studio import HEADINGS, items, memory_size, read_record
from letheon.page.uploads import LARGEST, SUFFIXES, discard, new_folder, store_rows
from letheon.recall.store import Store
from letheon.report.html import pretty

router = APIRouter(prefix="/studio", include_in_schema=False)
LARGEST_PAGE = 20_000_000  # bytes
# What a page of a run may do: show itself. A page without scripts gets no right to run any.
STILL = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; sandbox"
METHODS = {"auto": "auto: chosen by Letheon", "npo": "npo", "simnpo": "simnpo", "grad_diff": "grad_diff"}


@router.get("")
def overview(request: Request, site: Here) -> HTMLResponse:
    """List what the named folders hold, by kind, and the requests that were made here."""
    listed = items(site.folders)
    groups = {heading: [item for item in listed if item.kind == kind] for kind, heading in HEADINGS.items()}
    requests = site.queue.runs("forget")
    return show(request, "studio_list.html.j2", groups=groups, folders=site.folders, requests=requests)


@router.get("/at/{root}")
def detail(request: Request, site: Here, root: int, name: str = ".") -> HTMLResponse:
    """Show one folder, ledger or memory."""
    path = _path(site, root, name)
    if path.is_file():
        return _memory(request, path, name)
    if (path / "ledger.db").is_file():
        return _ledger(request, inside(path, "ledger.db").parent, name)
    records = {
        file: read_record(inside(path, file)) for file in ("config.json", "result.json") if (path / file).is_file()
    }
    pages = sorted(file.name for file in path.glob("*.html") if file.is_file() and not file.is_symlink())
    return show(
        request,
        "studio_detail.html.j2",
        title=name if name != "." else path.name,
        root=root,
        name=name,
        audit=(path / "audit.json").is_file(),
        pages=[page for page in pages if page != "report.html" or not (path / "audit.json").is_file()],
        tables=[],
        records={file: pretty(plain(record))[:20_000] for file, record in records.items() if isinstance(record, dict)},
    )


def _memory(request: Request, path: Path, name: str) -> HTMLResponse:
    rows = [*Store.facts(path).items(), *((table, str(count)) for table, count in memory_size(path).items())]
    return _table(request, name, "About this memory", ("", ""), rows)


def _ledger(request: Request, path: Path, name: str) -> HTMLResponse:
    ledger = Ledger.open(path)
    try:
        verification, entries = ledger.verify(), ledger.entries()
    finally:
        ledger.close()
    state = "The chain is whole." if verification.whole else "The chain is broken: see letheon ledger verify."
    rows = [(str(entry.sequence), entry.time, entry.action, entry.actor) for entry in entries]
    caption = f"{state} {len(entries)} entries, {len(cases(entries))} requests."
    return _table(request, name, caption, ("entry", "time", "action", "by"), rows)


def _table(
    request: Request, title: str, caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> HTMLResponse:
    table = {"caption": caption, "head": head, "rows": rows}
    values: dict[str, Any] = {"root": 0, "name": title, "audit": False, "pages": [], "records": {}, "tables": [table]}
    return show(request, "studio_detail.html.j2", title=title, **values)


@router.get("/report/{root}")
def report(site: Here, root: int, name: str = ".") -> Response:
    """Show an audit's page, drawn from its record, under that page's own content policy."""
    return _audit_page(inside(_path(site, root, name), "audit.json"))


@router.get("/runs/{number}/report")
def request_report(site: Here, number: int) -> Response:
    """Show the audit of a request that was made here."""
    return _audit_page(inside(_request(site, number).folder / "out", "audit.json"))


@router.get("/file/{root}")
def page_file(site: Here, root: int, name: str) -> Response:
    """Show a page that a command wrote; it can neither run scripts nor load anything."""
    path = _path(site, root, name)
    if path.suffix != ".html" or not path.is_file() or path.stat().st_size > LARGEST_PAGE:
        raise HTTPException(404)
    return HTMLResponse(path.read_bytes(), headers={"Content-Security-Policy": STILL})


@router.get("/request")
def request_form(request: Request, site: Here) -> HTMLResponse:
    """Show the form of a deletion request."""
    return _form(request, site, 200, "")


@router.post("/request")
def make_request(
    request: Request,
    site: Here,
    forget: Annotated[UploadFile, File()],
    retain: Annotated[UploadFile | None, File()] = None,
    model: Annotated[str, Form(max_length=500)] = "smollm2",
    method: Annotated[str, Form(max_length=40)] = "auto",
) -> Response:
    """Check the rows and put the request into the queue."""
    folder = new_folder(site.queue.folder)
    try:
        known = site.models()
        if model not in known or method not in METHODS:
            raise InputError("the form names a model or method that is not offered", "choose one of the list")
        rows = store_rows(folder, "forget", forget.filename or "", forget.file)
        arguments = ["forget", known[model], "--forget", str(rows.file)]
        if retain is not None and retain.filename:
            arguments += ["--retain", str(store_rows(folder, "retain", retain.filename, retain.file).file)]
        else:
            arguments += ["--retain", "auto"]
        if method != "auto":
            arguments += ["--method", method]
        number = site.queue.add("forget", f"{rows.number} rows, {model}", [*arguments, "--out", "FOLDER/out", "--json"])
    except LetheonError as error:
        discard(folder)
        return _form(request, site, 400, str(error))
    return RedirectResponse(f"/runs/{number}", 303)


@router.get("/chat")
def chat_form(request: Request, site: Here) -> HTMLResponse:
    """Show the form of two models and one prompt."""
    return _chat(request, site, 200, {}, [], "")


@router.post("/chat")
def chat(
    request: Request,
    site: Here,
    before: Annotated[str, Form(max_length=500)],
    after: Annotated[str, Form(max_length=500)],
    prompt: Annotated[str, Form(max_length=10_000)] = "",
    tokens: Annotated[int, Form()] = 60,
) -> HTMLResponse:
    """Ask both models and show their answers side by side."""
    given: dict[str, Any] = {"before": before, "after": after, "prompt": prompt, "tokens": tokens}
    known = site.models()
    try:
        if before not in known or after not in known:
            raise InputError("the form names a model that is not offered", "choose one of the list")
        said = answers([known[before], known[after]], prompt, tokens)
    except LetheonError as error:
        return _chat(request, site, 400, given, [], str(error))
    return _chat(request, site, 200, given, list(zip((before, after), said, strict=True)), "")


def _form(request: Request, site: Site, status: int, fault: str) -> HTMLResponse:
    values: dict[str, Any] = {"models": site.models(), "methods": METHODS, "suffixes": SUFFIXES, "largest": LARGEST}
    return show(request, "studio_request.html.j2", status, fault=fault, **values)


def _chat(
    request: Request, site: Site, status: int, given: dict[str, Any], said: Sequence[tuple[str, Said]], fault: str
) -> HTMLResponse:
    start = {"before": "smollm2", "after": next(reversed(site.models())), "prompt": "", "tokens": 60, **given}
    limits = {"longest_prompt": LONGEST_PROMPT, "longest_answer": LONGEST_ANSWER}
    values: dict[str, Any] = {"models": site.models(), "given": start, "said": said, "fault": fault, **limits}
    return show(request, "studio_chat.html.j2", status, **values)


def _path(site: Site, root: int, name: str) -> Path:
    """The path of a name below a named folder.

    Raises:
        HTTPException: 404, where there is no such folder or the name leads out of it.
    """
    if not 0 <= root < len(site.folders):
        raise HTTPException(404)
    return inside(site.folders[root], name)


def _request(site: Site, number: int) -> Run:
    run = next((run for run in site.queue.runs("forget") if run.id == number), None)
    if run is None:
        raise HTTPException(404)
    return run


def _audit_page(record: Path) -> HTMLResponse:
    page = render_audit(Audit.read(record))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None  # the page is this library's own
    return HTMLResponse(page, headers={"Content-Security-Policy": f"{policy[1]}; sandbox allow-scripts"})
