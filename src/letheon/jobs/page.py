"""`letheon page`: serve the page of papers on this machine, or write it as static files."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from letheon.core.errors import InputError
from letheon.core.model.models import cache_folder
from letheon.page.library import Library
from letheon.page.shelf import Shelf

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
    """

    shelf: Path
    out: Path
    embedder: str = "minilm"

    def plan(self) -> dict[str, Any]:
        """Return where the pages would be written."""
        check_extra()
        return {"folder": str(self.out), "shelf": str(self.shelf)}

    def work(self) -> dict[str, Any]:
        """Write the pages; return the folder, their number and the size of the largest."""
        from letheon.page.build import build

        check_extra()
        built = build(Library(Shelf(self.shelf), self.embedder, cache_folder()), self.out)
        return {"folder": str(built.folder), "pages": built.pages, "largest_kb": round(built.largest / 1000, 1)}
