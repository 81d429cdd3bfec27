"""Papers by their arXiv identifiers, fetched from arXiv's interface over https."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request

from letheon.core.errors import InputError, LetheonError
from letheon.page.importing.atom import read_atom
from letheon.page.importing.draft import ARXIV, Broken, Reading

API = "https://export.arxiv.org/api/query"
LARGEST, TIMEOUT = 4 << 20, 20.0  # bytes, seconds


def is_arxiv_id(text: str) -> bool:
    """Return whether a text is an arXiv identifier, with or without `arXiv:` and a version."""
    return ARXIV.fullmatch(re.sub(r"(?i)^arxiv:\s*", "", text.strip())) is not None


def fetch_arxiv(identifiers: list[str], api: str = API) -> Reading:
    """Fetch papers from arXiv.

    Args:
        identifiers: arXiv identifiers, with or without `arXiv:` and a version.
        api: address of the interface: https, or http on this machine.

    Returns:
        the papers; the line of each is its place among the identifiers, and an identifier without a paper is broken.

    Raises:
        InputError: the address is not https.
        LetheonError: there is no network, or arXiv does not answer as it should.
    """
    parts = urllib.parse.urlsplit(api)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")):
        raise InputError(f"{api} is not https", "give an https address")
    wanted = [ARXIV.fullmatch(re.sub(r"(?i)^arxiv:\s*", "", one.strip())) for one in identifiers]
    ids = [match[1] for match in wanted if match]
    query = urllib.parse.urlencode({"id_list": ",".join(ids), "max_results": len(ids)})
    try:
        with urllib.request.urlopen(f"{api}?{query}", timeout=TIMEOUT) as answer:
            content = answer.read(LARGEST + 1)
    except urllib.error.HTTPError as error:
        raise LetheonError(
            f"arXiv answered {error.code} {error.reason}", "try again later, or import a saved file"
        ) from None
    except (OSError, http.client.HTTPException) as error:  # no network, refused, timed out
        reason = getattr(error, "reason", error)
        raise LetheonError(
            f"arXiv could not be reached ({reason})",
            "connect to a network, or import a file that was saved from export.arxiv.org/api/query",
        ) from None
    if len(content) > LARGEST:
        raise LetheonError("arXiv's answer is too large", "ask for fewer papers at once")
    reading = read_atom(content.decode("utf-8", errors="replace"))
    known = {draft.arxiv for draft in reading.drafts}
    missing = [Broken(i, "arXiv has no such paper", one) for i, one in enumerate(ids, 1) if one not in known]
    return Reading(reading.drafts, [*reading.broken, *missing] if not reading.broken else reading.broken)
