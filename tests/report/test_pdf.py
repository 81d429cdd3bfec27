"""Printing: the browser gets what it should, and each way in which it can fail is told in words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from letheon.core.errors import InputError, LetheonError
from letheon.report.pdf import find_browser, write_pdf

PRINTS = """
import sys
target = next(word.split("=", 1)[1] for word in sys.argv if word.startswith("--print-to-pdf="))
open(target, "wb").write(b"%PDF-1.4 " + " ".join(sys.argv[1:]).encode())
"""


def browser(folder: Path, code: str, name: str = "chromium") -> str:
    """A program that stands in for the browser."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "a page; $(touch hit) #1.html"
    path.write_text("<p>a</p>")
    return path


def test_a_page_is_printed_by_an_empty_profile_without_a_shell(tmp_path: Path, page: Path) -> None:
    write_pdf(page, tmp_path / "out.pdf", browser(tmp_path / "bin", PRINTS))
    asked = (tmp_path / "out.pdf").read_text()
    assert asked.startswith("%PDF-")
    for option in ("--headless", "--user-data-dir=", "--disable-background-networking", page.as_uri()):
        assert option in asked
    profile = next(word for word in asked.split() if word.startswith("--user-data-dir=")).split("=")[1]
    assert not Path(profile).exists()
    assert not (tmp_path / "hit").exists()


def test_any_of_the_known_browsers_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = browser(tmp_path / "bin", PRINTS, "google-chrome")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_browser() == found
    Path(found).unlink()
    with pytest.raises(InputError, match="none of chromium, chromium-browser, google-chrome") as raised:
        find_browser()
    assert "install Chromium" in raised.value.remedy


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('no display')", "failed with code 1: no display"),
        ("pass", "wrote no PDF"),
        ("import time; time.sleep(60)", "did not finish within 1 s"),
    ],
)
def test_a_browser_that_fails_leaves_nothing(tmp_path: Path, page: Path, code: str, said: str) -> None:
    out = tmp_path / "out.pdf"
    with pytest.raises(LetheonError, match=said):
        write_pdf(page, out, browser(tmp_path / "bin", code), timeout=1)
    assert not out.exists()


def test_a_file_that_is_no_program_is_told(tmp_path: Path, page: Path) -> None:
    with pytest.raises(LetheonError, match="could not be started"):
        write_pdf(page, tmp_path / "out.pdf", str(tmp_path / "none"))
