"""`letheon report`: pages out of records, and what bad input gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from letheon.audit.page.page import render_audit
from tests.audit.specimen import specimen
from tests.report.test_pdf import PRINTS, browser
from tests.test_cli import run

NEWER = ("scope", "subject", "procedure", "output", "chain", "retention", "absent")


@pytest.fixture
def audits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs `one` and `two`."""
    for name in ("one", "two"):
        specimen().write(tmp_path / name / "audit.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_gets_its_page_anew(audits: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, "report", "one", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "verdicts": {"one": "pass"},
        "report": "one/report.html",
        "pdf": None,
    }
    assert (audits / "one/report.html").read_text(encoding="utf-8") == render_audit(specimen())


def test_a_record_from_before_the_dossier_is_still_rendered(audits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads((audits / "one/audit.json").read_text())
    older = {name: part for name, part in content.items() if name not in NEWER}
    (audits / "old.json").write_text(json.dumps(older))
    assert run(monkeypatch, "report", "old.json") == 0
    assert "Absent:" in (audits / "old.html").read_text(encoding="utf-8")


def test_several_audits_make_a_comparison(audits: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, "report", "one", "two/audit.json", "--out", "pages/both.html") == 0
    assert "two: pass" in capsys.readouterr().out
    assert "2 audits" in (audits / "pages/both.html").read_text(encoding="utf-8")


def test_a_page_is_printed_beside_itself(audits: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    browser(audits / "bin", PRINTS)
    monkeypatch.setenv("PATH", str(audits / "bin"))
    assert run(monkeypatch, "report", "one", "--pdf", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pdf"] == "one/report.pdf"
    assert (audits / "one/report.pdf").read_bytes().startswith(b"%PDF-")


def test_a_dry_run_writes_nothing(audits: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, "report", "one", "two", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["report"] == "comparison.html"
    assert sorted(path.name for path in audits.rglob("*.html")) == []


BAD = {
    "no record": (("report", "three"), "three does not exist"),
    "a folder without one": (("report", "."), "audit.json does not exist"),
    "no JSON": (("report", "broken.json"), "line 1: not JSON"),
    "another format": (("report", "other.json"), "schema version None"),
    "one twice": (("report", "one", "one/audit.json"), "are one record"),
    "no page": (("report", "one", "--out", "one/audit.json"), "name the page"),
    "a folder for a page": (("report", "one", "--out", "dir.html"), "is a folder"),
    "no browser": (("report", "one", "--pdf"), "install Chromium"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_nothing_written(
    audits: Path, monkeypatch: pytest.MonkeyPatch, capsys, case: str
) -> None:
    (audits / "broken.json").write_text("{")
    (audits / "other.json").write_text("{}")
    (audits / "dir.html").mkdir()
    monkeypatch.setenv("PATH", str(audits))
    words, said = BAD[case]
    assert run(monkeypatch, *words) == 2
    assert said in capsys.readouterr().err
    assert [path for path in audits.rglob("*.html") if path.is_file()] == []
