"""Pages out of audits that were made before: read the records, render one or compare several, print to PDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.audit.record.record import Audit
from letheon.core.atomic import atomic_write_text, check_writable
from letheon.core.errors import InputError

PAGE = (".html", ".htm")


@dataclass(frozen=True)
class ReportJob:
    """What is to be rendered, checked: the records are read, and the places can be written.

    Attributes:
        records: the audits by the names that they have on the page.
        files: where they were read from, in the same order.
        out: the page.
        browser: the program that prints it, or empty where no PDF is wanted.
    """

    records: dict[str, Audit]
    files: list[Path]
    out: Path
    browser: str = ""

    @property
    def pdf(self) -> Path | None:
        """The PDF, where one is wanted."""
        return self.out.with_suffix(".pdf") if self.browser else None

    def told(self) -> dict[str, Any]:
        """What there is and what is (or would be) written."""
        return {
            "verdicts": {name: record.verdict.outcome for name, record in self.records.items()},
            "report": str(self.out),
            "pdf": str(self.pdf) if self.pdf else None,
        }

    def write(self) -> None:
        """Write the page, and print it."""
        from letheon.report.pdf import write_pdf

        atomic_write_text(self.out, self._page())
        if self.pdf:
            write_pdf(self.out, self.pdf, self.browser)

    def _page(self) -> str:
        if len(self.records) == 1:
            from letheon.audit.page.page import render_audit

            return render_audit(*self.records.values())
        from letheon.compare.audits import side_by_side
        from letheon.compare.page import render_audits

        return render_audits(side_by_side(self.records), [str(file) for file in self.files])


def report_job(places: Sequence[Path], out: Path | None = None, pdf: bool = False) -> ReportJob:
    """Check what is asked for.

    Args:
        places: run folders, or audit records themselves.
        out: the page; default `report.html` beside a single record, `comparison.html` here for several.
        pdf: whether it is printed too.

    Raises:
        InputError: a record is missing or none, one is given twice, the page's name is none, there is no browser.
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
    browser = ""
    if pdf:
        from letheon.report.pdf import find_browser

        browser = find_browser()
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
    """Names of the records: their folders', or their own; their paths where names repeat or mean a model's role."""
    names = [file.resolve().parent.name if file.name == "audit.json" else file.stem for file in files]
    unclear = {name for name in names if names.count(name) > 1} | {"before", "after", "reference", ""}
    return [str(file) if name in unclear else name for name, file in zip(names, files, strict=True)]
