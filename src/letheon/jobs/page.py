"""`letheon page`: serve the page of papers on this machine, or write it as static files."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from letheon.core.atomic import atomic_write_bytes
from letheon.core.errors import InputError
from letheon.core.model.models import cache_folder
from letheon.page.digest import digest_mail, make_digest, parse_since
from letheon.page.importing.importer import Imported, import_sources
from letheon.page.library import Library
from letheon.page.links import check_site
from letheon.page.mail import SERVER, Server, check_address, sender
from letheon.page.schedule import schedule
from letheon.page.shelf import Shelf
from letheon.page.subscribers import Subscribers

NEEDED = ("fastapi", "uvicorn", "python_multipart")
HOST, PORT = "127.0.0.1", 8457
GRACE_SECONDS = 2  # for open connections, when the site is closed


def shelf_file() -> Path:
    """The reader's file: `$LETHEON_PAGE`, else `letheon/page.sqlite` in the user's data folder."""
    if "LETHEON_PAGE" in os.environ:
        return Path(os.environ["LETHEON_PAGE"])
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "letheon" / "page.sqlite"


def check_extra() -> None:
    """Refuse to go on without the packages of the site.

    Raises:
        InputError: one of them is not installed.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"the page needs {', '.join(missing)}", "pip install 'letheon[page]'")


@dataclass(frozen=True)
class ServeJob:
    """The site on this machine.

    Attributes:
        shelf: the reader's file.
        folders: folders whose runs the site shows.
        port: where it listens, on the loopback address alone.
        embedder: name of the embedder for the search by meaning; `words` goes without.
    """

    shelf: Path
    folders: Sequence[Path]
    port: int = PORT
    embedder: str = "minilm"

    @property
    def address(self) -> str:
        """The address of the site."""
        return f"http://{HOST}:{self.port}/"

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be served."""
        check_extra()
        for folder in self.folders:
            if not folder.is_dir():
                raise InputError(f"{folder} is no folder", "name folders that exist")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except (OSError, OverflowError) as error:
                raise InputError(f"port {self.port} cannot be used: {error}", "choose another --port") from None
        return {"address": self.address, "shelf": str(self.shelf), "folders": [str(one) for one in self.folders]}

    def work(self) -> None:
        """Serve the site until it is interrupted.

        Raises:
            InputError: another site uses the same shelf.
        """
        import uvicorn

        from letheon.page.app import create_app

        shelf = Shelf(self.shelf)
        lock = FileLock(self.shelf.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"another site uses {self.shelf}", "close it, or choose another --shelf") from None
        try:
            app = create_app(shelf, self.folders, embedder=self.embedder, cache=cache_folder())
            uvicorn.run(
                app,
                host=HOST,
                port=self.port,
                log_level="warning",
                server_header=False,
                proxy_headers=False,  # anybody on this machine could name clients, whose subscriptions are limited
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        finally:
            lock.release()
            shelf.close()


@dataclass(frozen=True)
class BuildJob:
    """The site as static files.

    Attributes:
        shelf: the reader's file, whose imported papers are among the pages.
        out: the folder of the pages.
        embedder: name of the embedder by which the map is drawn.
        address: where the pages will be, for the feeds; empty leaves their links relative.
    """

    shelf: Path
    out: Path
    embedder: str = "minilm"
    address: str = ""

    def plan(self) -> dict[str, Any]:
        """Return where the pages would be written."""
        check_extra()
        address = check_site(self.address, "--address") if self.address else ""
        return {"folder": str(self.out), "shelf": str(self.shelf), "address": address}

    def work(self) -> dict[str, Any]:
        """Write the pages; return the folder, their number and the size of the largest."""
        from letheon.page.build import build

        address = self.plan()["address"]
        built = build(Library(Shelf(self.shelf), self.embedder, cache_folder()), self.out, address)
        return {"folder": str(built.folder), "pages": built.pages, "largest_kb": round(built.largest / 1000, 1)}


@dataclass(frozen=True)
class ImportJob:
    """Papers of files, or by their arXiv identifiers, that come onto the page.

    Attributes:
        shelf: the reader's file.
        sources: paths of files, or arXiv identifiers.
        year: the year of a daily page's days without one; None infers it.
    """

    shelf: Path
    sources: Sequence[str]
    year: int | None = None

    def plan(self) -> dict[str, Any]:
        """Return what would be imported, and whereto."""
        return {"shelf": str(self.shelf), "sources": list(self.sources)}

    def work(self) -> list[Imported]:
        """Import all sources, or none if one cannot be read."""
        return import_sources(Shelf(self.shelf), self.sources, self.year)


@dataclass(frozen=True)
class DigestJob:
    """The digest, sent by mail or written to a file.

    Attributes:
        shelf: the reader's file.
        since: 7d, 12h, 2w or an ISO date: from when on something is new.
        to: the recipient; empty for all subscribers of the page.
        smtp: the mail server, smtp://user@host:587 or smtps://...; by default LETHEON_SMTP of the environment.
        out: a file to write the mail to instead of sending it.
        site: the address of the page in the mail's links.
    """

    shelf: Path
    since: str
    to: str = ""
    smtp: str = ""
    out: Path | None = None
    site: str = f"http://{HOST}:{PORT}"

    def plan(self) -> dict[str, Any]:
        """Check the options and return what would be sent."""
        parse_since(self.since, datetime.now(UTC))
        check_site(self.site, "--site")
        if self.out is not None and not self.to:
            raise InputError("--out needs a recipient", "give --to")
        address = self.smtp or os.environ.get(SERVER, "")
        if self.out is None and not address:
            raise InputError("no mail server is given", f"give --smtp smtp://user@host:587 or --out, or set {SERVER}")
        host = Server.parse(address).host if self.out is None else ""
        return {"since": self.since, "to": check_address(self.to) if self.to else "subscribers", "server": host}

    def work(self) -> dict[str, Any]:
        """Send or write the digest; return its subject, the recipients, and those left out since they unsubscribed."""
        self.plan()
        shelf, now = Shelf(self.shelf), datetime.now(UTC)
        subscribers, digest = Subscribers(shelf), make_digest(shelf, parse_since(self.since, now), now)
        wanted = [check_address(self.to)] if self.to else subscribers.addresses()
        left = [address for address in wanted if subscribers.state(address) == "left"]
        recipients = [address for address in wanted if address not in left]
        site = check_site(self.site, "--site")
        for address in recipients:
            leave = f"{site}/unsubscribe?key={subscribers.token_to_leave(address)}"
            mail = digest_mail(digest, sender(), address, site, leave, now)
            if self.out is not None:
                atomic_write_bytes(self.out, mail.as_bytes())
            else:
                Server.parse(self.smtp or os.environ[SERVER]).send(mail)
        return {
            "subject": digest.subject,
            "papers": [entry.key for entry in digest.papers],
            "verdicts": [{"key": one.entry.key, "before": one.before, "after": one.after} for one in digest.verdicts],
            "sent": recipients,
            "unsubscribed": left,
            "file": str(self.out) if self.out and recipients else "",
        }

    def schedule(self) -> str:
        """Return a systemd timer and a cron line that send this digest every week."""
        self.plan()
        given = {
            "--since": self.since,
            "--to": self.to,
            "--smtp": self.smtp,
            "--out": str(self.out.absolute()) if self.out else "",
            "--site": self.site,
            "--shelf": str(self.shelf.absolute()),
        }
        words = [word for name, value in given.items() if value for word in (name, value)]
        return schedule([sys.executable, "-m", "letheon", "page", "digest", *words])
