"""Print a page to PDF with an installed Chromium.

The browser runs without a shell, with an empty temporary profile, and with a time limit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from letheon.core.atomic import atomic_write_bytes
from letheon.core.errors import InputError, LetheonError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT = 120.0  # seconds; a page with a thousand rows takes a while
# Switch off what a browser does at its start, some of which uses the network.
QUIET = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
)


def find_browser() -> str:
    """Return the path of the first known browser on PATH.

    Raises:
        InputError: no browser is installed; the message says which to install.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise InputError(
            f"a PDF needs a browser that prints, and none of {', '.join(BROWSERS)} is on PATH",
            "install Chromium (Debian, Ubuntu, Fedora: package chromium), or open the page and print it by hand",
        )
    return found


def browse(browser: str, address: str, *options: str, timeout: float = TIMEOUT) -> bytes:
    """Run a headless browser on a local page and return its standard output.

    Args:
        browser: path of the browser.
        address: URI of the page, as `Path.as_uri` gives it.
        options: the browser's options, such as `--dump-dom`.
        timeout: seconds.

    Raises:
        LetheonError: the browser failed or took longer.
    """
    # Chromium refuses to sandbox as root. The page's content policy allows only its search script.
    rooted = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="letheon-browser-", ignore_cleanup_errors=True) as profile:
        command = [browser, *QUIET, *rooted, f"--user-data-dir={profile}", *options, address]
        try:
            done = subprocess.run(command, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            raise LetheonError(
                f"{browser} did not finish within {timeout:.0f} s", "open the page and print it by hand"
            ) from None
        except OSError as error:
            raise LetheonError(
                f"{browser} could not be started: {error.strerror or error}", "install Chromium"
            ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise LetheonError(
            f"{browser} failed with code {done.returncode}{': ' + said[-1] if said else ''}",
            "open the page and print it by hand",
        )
    return done.stdout


def write_pdf(page: Path, out: Path, browser: str = "", timeout: float = TIMEOUT) -> None:
    """Print a page to a PDF file, atomically.

    Args:
        page: the HTML file.
        out: the PDF file.
        browser: path of the browser; the first known one on PATH by default.
        timeout: seconds.

    Raises:
        InputError: no browser is installed.
        LetheonError: the browser failed, took longer, or wrote no PDF.
    """
    browser = browser or find_browser()
    with tempfile.TemporaryDirectory(prefix="letheon-pdf-") as folder:
        printed = Path(folder) / "page.pdf"
        address = page.absolute().as_uri()
        browse(browser, address, "--no-pdf-header-footer", f"--print-to-pdf={printed}", timeout=timeout)
        content = printed.read_bytes() if printed.is_file() else b""
    if not content.startswith(b"%PDF-"):
        raise LetheonError(f"{browser} wrote no PDF of {page}", "open the page and print it by hand")
    atomic_write_bytes(out, content)
