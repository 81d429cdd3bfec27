"""Atom files as arXiv's interface gives them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from letheon.page.importing.dates import is_day
from letheon.page.importing.draft import Broken, Draft, Reading, arxiv_of, lines_of, one_line

ATOM = "{http://www.w3.org/2005/Atom}"


def read_atom(text: str) -> Reading:
    """Read the entries of an Atom file.

    Each entry is parsed alone, so that one which is not well formed leaves the others readable.
    """
    reading = Reading()
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):  # declarations can blow a small file up
        return Reading(broken=[Broken(1, "it declares a document type, which is not read", text)])
    starts = [match.start() for match in re.finditer(r"<(?:\w+:)?entry[\s>]", text)]
    opening = re.search(r"<(?:\w+:)?feed\b([^>]*)>", text)
    spaces = " ".join(re.findall(r"""xmlns(?::\w+)?\s*=\s*(?:"[^"<&]*"|'[^'<&]*')""", opening[1] if opening else ""))
    for start, stop, line in zip(starts, [*starts[1:], len(text)], lines_of(text, starts), strict=True):
        block = re.match(r".*?</(?:\w+:)?entry\s*>", text[start:stop], re.DOTALL)
        if block is None:
            reading.broken.append(Broken(line, "the entry is not closed", text[start:stop].strip()))
            continue
        try:
            entry = ElementTree.fromstring(f"<feed {spaces}>{block[0]}</feed>")[0]
            reading.drafts.append(_draft(line, entry))
        except (ElementTree.ParseError, ValueError) as error:
            reading.broken.append(Broken(line, str(error), block[0]))
    return reading


def _draft(line: int, entry: ElementTree.Element) -> Draft:
    def text(name: str) -> str:
        element = entry.find(f"{ATOM}{name}")
        return one_line("".join(element.itertext())) if element is not None else ""

    title, abstract, address, day = text("title"), text("summary"), text("id"), text("published") or text("updated")
    if "/api/errors" in address:
        raise ValueError(f"arXiv answers: {abstract}")
    if not title:
        raise ValueError("it has no title")
    if not is_day(day[:10]):
        raise ValueError(f"date {day[:30]!r} is no date" if day else "it has no date")
    people = [one_line(author.findtext(f"{ATOM}name", "")) for author in entry.findall(f"{ATOM}author")]
    names = tuple(name for name in people if name)
    link = address.replace("http://", "https://", 1)
    return Draft(
        line=line,
        title=title,
        abstract=abstract,
        authors=len(names) or None,
        names=names,
        date=day[:10],
        arxiv=arxiv_of(address),
        link=link if re.fullmatch(r"https://[^\s\"'<>]+", link) else "",
    )
