"""The static pages: every link leads to a file, nothing needs the server, the search's index is in its page."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from letheon.cli import main
from letheon.core.errors import InputError
from letheon.jobs import page as job
from letheon.page import meaning
from letheon.page.build import build
from letheon.page.entries import Entry
from letheon.page.library import Library
from letheon.page.shelf import Shelf


def test_static_pages_stand_alone(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "layout", lambda vectors: abs(vectors[:, :2]))
    shelf.add([Entry("hostile", "</script><script>alert(1)</script>", abstract="\u2028<b>")])
    built = build(Library(shelf, "words", tmp_path), tmp_path / "site")
    assert built.largest < 100_000
    pages = list(built.folder.rglob("*.html"))
    assert len(pages) == built.pages
    for page in pages:
        text = page.read_text()
        assert "<form method" not in text
        assert "hx-" not in text
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            if not link.startswith(("https://", "http://", "data:", "#")):
                assert (page.parent / unquote(urldefrag(link)[0])).is_file(), f"{page}: {link}"
    text = (built.folder / "search.html").read_text()
    index = json.loads(text.split('id="index">')[1].split("</script>")[0])
    place = index["papers"].index(next(paper for paper in index["papers"] if paper["key"] == "hyperattention"))
    assert place in index["words"]["hyperattention"][::2]
    assert index["papers"][-1]["title"] == "</script><script>alert(1)</script>"


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(job, "NEEDED", ("fastapi", "no_such_package"))
    with pytest.raises(InputError, match="no_such_package"):
        job.check_extra()
    monkeypatch.setattr(sys, "argv", ["letheon", "page", "--build", str(tmp_path / "site"), "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "pip install 'letheon[page]'" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    words = ["letheon", "page", "--port", "0", "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    monkeypatch.setattr(sys, "argv", ["letheon", "page", "--shelf", str(tmp_path / "s"), "--dry-run", "--json"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    assert json.loads(capsys.readouterr().out)["shelf"] == str(tmp_path / "s")
    assert not list(tmp_path.iterdir())
