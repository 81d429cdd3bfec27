"""The site on a port of this machine, with runs that a stub does at once, and a headless Chromium that reads it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
uvicorn = pytest.importorskip("uvicorn")

from letheon.page.app import create_app  # noqa: E402
from letheon.page.shelf import Shelf  # noqa: E402
from letheon.papers.catalogue import RESULTS  # noqa: E402
from letheon.report.pdf import BROWSERS  # noqa: E402
from tests.audit.specimen import specimen  # noqa: E402

BROWSER = next(filter(None, map(shutil.which, BROWSERS)), "")
AXE = Path(__file__).parent / "vendor" / "axe.min.js"

# Does in no time what `python -m letheon papers run KEY ...` and `letheon forget ...` do in minutes.
STUB = f"""#!{sys.executable}
import json, pathlib, sys
words = sys.argv[3:]
out = pathlib.Path(words[words.index("--out") + 1])
out.mkdir(parents=True)
print("seed: 1/1", file=sys.stderr)
if words[0] == "papers":
    result = json.load(open({str(RESULTS)!r}))[words[2]]
    (out / "outcome.json").write_text(json.dumps(result))
else:
    (out / "audit.json").write_text(pathlib.Path({{audit!r}}).read_text())
"""


@contextmanager
def site(folder: Path, folders: list[Path], stub: bool = True) -> Iterator[tuple[str, Shelf]]:
    """Serve the site until the block ends; give its address and its shelf."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shelf = Shelf(folder / "page.sqlite")
    with pytest.MonkeyPatch.context() as patch:
        if stub:
            (folder / "audit.json").write_text(specimen().model_dump_json())
            program = folder / "stub"
            program.write_text(STUB.replace("{audit!r}", repr(str(folder / "audit.json"))))
            program.chmod(0o755)
            patch.setattr("letheon.page.processes.sys", type("Stub", (), {"executable": str(program)}))
        patch.setattr("letheon.page.queue.POLL_SECONDS", 0.05)
        patch.setattr("letheon.page.routes.runs.EVENT_SECONDS", 0.05)
        app = create_app(shelf, folders, embedder="words")
        server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}", shelf
        finally:
            server.should_exit = True
            thread.join(10)
            with contextlib.suppress(Exception):
                shelf.close()


@contextmanager
def chromium() -> Iterator[Any]:
    """Give a headless Chromium, driven by playwright."""
    with playwright.sync_playwright() as driver:
        switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=BROWSER, args=switches)
        try:
            yield browser
        finally:
            browser.close()
