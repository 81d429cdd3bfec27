"""`letheon report`: read audits made before, render one or compare several, print to PDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.audit.page.page import render_audit
from letheon.audit.record.record import Audit
from letheon.compare.audits import side_by_side
from letheon.compare.page import render_audits
from letheon.core.atomic import atomic_write_text, check_writable
from letheon.core.errors import InputError
from letheon.report.pdf import find_browser, write_pdf

PAGE = (".html", ".htm")


@dataclass(frozen=True)
class ReportJob:
    """A page to be rendered from records that were read and checked."""

    records: dict[str, Audit]  # the audits by the names that they have on the page
    files: list[Path]  # the records' files, in the same order
    out: Path  # the page
    browser: str = ""  # the program that prints the page, empty where no PDF is wanted

    @property
    def pdf(self) -> Path | None:
        """The file of the PDF, None where no PDF is wanted."""
        return self.out.with_suffix(".pdf") if self.browser else None

    def plan(self) -> dict[str, Any]:
        """Return the verdicts, and the files that are or would be written."""
        return {
            "verdicts": {name: record.verdict.outcome for name, record in self.records.items()},
            "report": str(self.out),
            "pdf": str(self.pdf) if self.pdf else None,
        }

    def work(self) -> dict[str, Any]:
        """Write the page, print it where a PDF is wanted, and return the plan."""
        atomic_write_text(self.out, self._page())
        if self.pdf:
            write_pdf(self.out, self.pdf, self.browser)
        return self.plan()

    def _page(self) -> str:
        if len(self.records) == 1:
            return render_audit(*self.records.values())
        return render_audits(side_by_side(self.records), [str(file) for file in self.files])


def report_job(places: Sequence[Path], out: Path | None = None, pdf: bool = False) -> ReportJob:
    """Read the records and check that the page can be written.

    Args:
        places: run folders, or audit records themselves.
        out: the page; default `report.html` beside a single record, `comparison.html` here for several.
        pdf: print the page to PDF too.

    Raises:
        InputError: a file is missing or no record, a record is given twice, `out` is no page, or there is no browser.
    """
    files = [_file(place) for place in places]
    _demand_different(files)
    records = [Audit.read(file) for file in files]
    page = out or _default(files)
    if page.suffix.lower() not in PAGE:
        raise InputError(f"--out {page}: found {page.suffix or 'no suffix'}", "name the page: --out report.html")
    if page.is_dir():
        raise InputError(f"--out {page} is a folder", "name the page: --out report.html")
    check_writable(page.parent)
    browser = find_browser() if pdf else ""
    return ReportJob(dict(zip(_names(files), records, strict=True)), files, page, browser)


def _file(place: Path) -> Path:
    return place / "audit.json" if place.is_dir() else place


def _demand_different(files: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for file in files:
        if (other := seen.setdefault(file.resolve(), file)) is not file:
            raise InputError(f"{file} and {other} are one record", "name each audit once")


def _default(files: Sequence[Path]) -> Path:
    if len(files) > 1:
        return Path("comparison.html")
    return files[0].with_name("report.html") if files[0].name == "audit.json" else files[0].with_suffix(".html")


def _names(files: Sequence[Path]) -> list[str]:
    """Name each record after its folder or file; by its path where names repeat or are those of a model's role."""
    names = [file.resolve().parent.name if file.name == "audit.json" else file.stem for file in files]
    unclear = {name for name in names if names.count(name) > 1} | {"before", "after", "reference", ""}
    return [str(file) if name in unclear else name for name, file in zip(names, files, strict=True)]
