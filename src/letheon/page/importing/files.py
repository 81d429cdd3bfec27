"""Which reader reads a file: decided by its content, not by its name."""

from __future__ import annotations

import re
from pathlib import Path

from letheon.core.errors import InputError
from letheon.page.importing.atom import read_atom
from letheon.page.importing.bibtex import read_bibtex
from letheon.page.importing.daily_html import read_daily_html
from letheon.page.importing.daily_text import read_daily_text
from letheon.page.importing.draft import Reading

LARGEST = 64 << 20  # bytes; a saved page with everything in it has a few million


def read_papers(path: Path) -> Reading:
    """Read the papers of a file: a daily page as text or HTML, BibTeX, or Atom.

    Raises:
        InputError: the file is missing, too large, not text, or holds nothing that looks like a paper.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} has more than {LARGEST >> 20} MB", "import it in parts")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror or error}", "check the path") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start})", "save it as UTF-8 text") from None
    return parse_papers(text, str(path))


def parse_papers(text: str, source: str) -> Reading:
    """Read the papers of a text whose format its content shows; `source` names it in errors."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    head = text.lstrip()[:4000]
    if re.search(r"<(?:\w+:)?feed[\s>]", head):
        reading = read_atom(text)
    elif re.match(r"<(?:!doctype html|html|head|body|main|div|article|section|!--)", head, re.IGNORECASE):
        reading = read_daily_html(text)
    elif re.search(r"^[ \t]*@\s*\w+\s*[{(]", text, re.MULTILINE) and not re.search(r"^·", text, re.MULTILINE):
        reading = read_bibtex(text)
    else:
        reading = read_daily_text(text)
    if not (reading.drafts or reading.broken):
        raise InputError(f"{source} holds no papers", "give a saved daily page (text or HTML), BibTeX or an Atom file")
    return reading
