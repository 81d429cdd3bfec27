"""The digest: which papers and verdicts are new since a day, as a mail in plain text and HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, make_msgid
from itertools import pairwise

from letheon.core.errors import InputError
from letheon.page.entries import Entry, catalogue_entries
from letheon.page.mail import check_address
from letheon.page.shelf import Shelf
from letheon.papers.catalogue import read_results
from letheon.report.html import render
from letheon.report.safe_text import visible

MIGRATIONS = (
    """
    CREATE TABLE digest_papers (key TEXT PRIMARY KEY, seen TEXT NOT NULL);
    CREATE TABLE digest_verdicts (
        key TEXT NOT NULL, verdict TEXT NOT NULL, date TEXT NOT NULL, PRIMARY KEY (key, date)
    );
    """,
)
LONGEST = 280  # characters of an abstract
PLAIN = frozenset({"List-Unsubscribe"})
UNITS = {"h": "hours", "d": "days", "w": "weeks"}


class _Plain(EmailPolicy):
    """Writes an address in a header on one line: folding would encode one that is longer than a line."""

    def fold(self, name: str, value: str) -> str:
        """Write one header."""
        return f"{name}: {value}{self.linesep}" if name in PLAIN else super().fold(name, value)

    def fold_binary(self, name: str, value: str) -> bytes:
        """Write one header as bytes."""
        return self.fold(name, value).encode("ascii") if name in PLAIN else super().fold_binary(name, value)


POLICY = _Plain(linesep="\r\n")


@dataclass(frozen=True)
class VerdictChange:
    """A verdict that is new: the paper, the verdict before (empty for the first one), the present one, its day."""

    entry: Entry
    before: str
    after: str
    date: str


@dataclass(frozen=True)
class Digest:
    """What is new since a time.

    Attributes:
        since: the time from which on something is new.
        papers: papers that came to the page, the latest first.
        verdicts: verdicts that were recorded, the latest first.
    """

    since: datetime
    papers: tuple[Entry, ...]
    verdicts: tuple[VerdictChange, ...]

    @property
    def subject(self) -> str:
        """The mail's subject: how much is new. No title stands in it."""
        papers, verdicts = len(self.papers), len(self.verdicts)
        return (
            f"Letheon papers: {papers} new {'paper' if papers == 1 else 'papers'}, "
            f"{verdicts} new or changed {'verdict' if verdicts == 1 else 'verdicts'}"
        )


def parse_since(text: str, now: datetime) -> datetime:
    """Read `7d`, `12h`, `2w` or an ISO date as the time from which on something is new.

    Raises:
        InputError: the text is neither, or lies in the future.
    """
    span = re.fullmatch(r"(\d{1,4})([hdw])", text.strip())
    try:
        since = now - timedelta(**{UNITS[span[2]]: int(span[1])}) if span else datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"--since {text!r} is no time", "write 7d, 12h, 2w or 2026-03-01") from None
    since = since if since.tzinfo else since.replace(tzinfo=UTC)
    if since > now:
        raise InputError(f"--since {text!r} lies in the future", "write 7d, 12h, 2w or an earlier day")
    return since


def make_digest(shelf: Shelf, since: datetime, now: datetime | None = None) -> Digest:
    """Collect what is new, and note the present papers and verdicts for the next digest.

    A paper of the catalogue is new from the first digest that meets it on, those of the very first digest excepted;
    an imported one from its import on.
    """
    _observe(shelf, now or datetime.now(UTC))
    start = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    by_key = {entry.key: entry for entry in shelf.entries()}
    rows = shelf.rows(
        "SELECT key, seen FROM digest_papers WHERE seen >= ? UNION SELECT key, added FROM entries WHERE added >= ? "
        "ORDER BY seen DESC, key",
        (start, start),
    )
    papers = tuple(by_key[row["key"]] for row in rows if row["key"] in by_key)
    history: dict[str, list[tuple[str, str]]] = {}
    for row in shelf.rows("SELECT * FROM digest_verdicts ORDER BY key, date"):
        history.setdefault(row["key"], [("", "")]).append((row["verdict"], row["date"]))
    changes = [
        VerdictChange(by_key[key], before[0], after[0], after[1])
        for key, verdicts in history.items()
        for before, after in pairwise(verdicts)
        if key in by_key and after[1] >= start and after[0] != before[0]
    ]
    return Digest(
        since, papers, tuple(sorted(changes, key=lambda change: (change.date, change.entry.key), reverse=True))
    )


def _observe(shelf: Shelf, now: datetime) -> None:
    """Note the catalogue's papers and the recorded verdicts."""
    shelf.extend("digest", MIGRATIONS)
    with shelf.transaction() as connection:
        first = not shelf.rows("SELECT 1 FROM digest_papers LIMIT 1")
        seen = "" if first else now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        connection.executemany(
            "INSERT OR IGNORE INTO digest_papers VALUES (?, ?)", [(entry.key, seen) for entry in catalogue_entries()]
        )
        connection.executemany(
            "INSERT OR IGNORE INTO digest_verdicts VALUES (?, ?, ?)",
            [(key, result["verdict"], result["date"]) for key, result in read_results().items() if result.get("date")],
        )


def digest_mail(
    digest: Digest, sender: str, to: str, site: str, leave: str, now: datetime | None = None
) -> EmailMessage:
    """Write the digest as a mail.

    Args:
        digest: what is new.
        sender: the sender's address.
        to: the recipient's address.
        site: address of the page, without a slash at its end.
        leave: address at which the recipient unsubscribes; mail programs may do so with one click if it is https.
        now: the mail's date.

    Raises:
        InputError: an address is not one.
    """
    message = plain_mail(digest.subject, sender, to, _plain(digest, site, leave), now)
    message["List-Unsubscribe"] = f"<{leave}>"
    if leave.startswith("https://"):  # RFC 8058 allows no other
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    words = {"digest": digest, "site": site, "leave": leave, "longest": LONGEST}
    message.add_alternative(render("letheon.page", "templates/digest_mail.html.j2", **words), subtype="html")
    return message


def plain_mail(subject: str, sender: str, to: str, text: str, now: datetime | None = None) -> EmailMessage:
    """Write a mail of plain text; addresses are checked, so that no header can be added through them.

    Raises:
        InputError: an address is not one.
    """
    message = EmailMessage(policy=POLICY)
    message["Subject"] = " ".join(subject.split())
    message["From"] = check_address(sender)
    message["To"] = check_address(to)
    message["Date"] = format_datetime(now or datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    message.set_content(text)
    return message


def _plain(digest: Digest, site: str, leave: str) -> str:
    lines = [f"New since {digest.since:%d %B %Y}", ""]
    for title, empty, items in (
        ("PAPERS", "No new papers.", [_paper_lines(entry, site) for entry in digest.papers]),
        ("VERDICTS", "No new verdicts.", [_verdict_lines(change, site) for change in digest.verdicts]),
    ):
        lines += [title, "", *(line for item in items for line in [*item, ""])] if items else [title, "", empty, ""]
    return "\n".join([*lines, "-- ", f"The page: {site}/", f"Unsubscribe: {leave}"])


def _paper_lines(entry: Entry, site: str) -> list[str]:
    abstract = " ".join(visible(entry.abstract).split())
    cut = abstract if len(abstract) <= LONGEST else f"{abstract[:LONGEST].rsplit(' ', 1)[0]} ..."
    facts = ", ".join(
        filter(None, (entry.date, f"{entry.author_count} authors" if entry.author_count else "", entry.badge))
    )
    return [" ".join(visible(entry.title).split()), facts, *([cut] if cut else []), f"{site}/papers/{entry.key}"]


def _verdict_lines(change: VerdictChange, site: str) -> list[str]:
    title = " ".join(visible(change.entry.title).split())
    was = f" (before: {change.before})" if change.before else ""
    return [title, f"{change.date[:10]}: {change.after}{was}", f"{site}/papers/{change.entry.key}"]
