"""Import by a form: a saved page, BibTeX or an Atom file."""

from __future__ import annotations

from datetime import date
from pathlib import PurePath
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse

from letheon.core.errors import InputError
from letheon.page.importing.files import parse_papers
from letheon.page.importing.importer import Imported, import_reading
from letheon.page.site import Here, show

router = APIRouter(include_in_schema=False)
LARGEST = 10_000_000  # bytes


@router.get("/import")
def import_form(request: Request) -> HTMLResponse:
    """Show the form."""
    return _answer(request, 200, None, "")


@router.post("/import")
def import_file(
    request: Request,
    site: Here,
    file: Annotated[UploadFile, File()],
    year: Annotated[str, Form(pattern=r"^(\d{4})?$")] = "",
) -> HTMLResponse:
    """Import the uploaded file, which is not stored, and list what became of its entries."""
    name = PurePath((file.filename or "upload").replace("\\", "/")).name[:100] or "upload"
    content = file.file.read(LARGEST + 1)
    try:
        if len(content) > LARGEST:
            raise InputError(f"the file has more than {LARGEST / 1e6:.0f} MB", "use letheon page import")
        reading = parse_papers(content.decode("utf-8-sig"), name)
    except UnicodeDecodeError:
        return _answer(request, 400, None, f"{name} is not UTF-8: save it as UTF-8 text")
    except InputError as error:
        return _answer(request, 400, None, str(error))
    done = import_reading(site.shelf, reading, name, date.today(), int(year) if year else None)
    return _answer(request, 200, done, "")


def _answer(request: Request, status: int, done: Imported | None, fault: str) -> HTMLResponse:
    return show(request, "import.html.j2", status, done=done, fault=fault)
