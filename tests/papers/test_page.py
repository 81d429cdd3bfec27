"""What `letheon papers` prints and saves."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from letheon.core.errors import InputError, LetheonError
from letheon.papers import catalogue, page
from letheon.papers.catalogue import Outcome, Scale, paper, papers
from letheon.papers.kit.findings import Findings
from letheon.papers.outcome import readable

OUTCOME = Outcome(
    key="gu",
    claim="slope above 1.5 <script>alert(1)</script> [bold]",
    baselines=["plain", "pcgrad"],
    measured={"slope": 1.9812345, "retain gap": None},
    interval=[1.9, 2.1],
    verdict="holds",
    seeds=[0, 1],
    seconds=2.0,
    figures={"slope": "<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"},
    rows=[{"seed": 0, "slope": 1.98}],
)


def reproduce(scale: Scale, found: Findings) -> None:
    """Finds what OUTCOME says."""
    found.baselines, found.measured, found.intervals = OUTCOME.baselines, OUTCOME.measured, {"slope": OUTCOME.interval}
    found.figures, found.rows = OUTCOME.figures, OUTCOME.rows
    found.decide("slope", [1.9, 2.0, 2.1], above=1.5, value=False)


@pytest.fixture
def gu_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The catalogue with one paper whose run gives OUTCOME, and results of its own."""
    module = SimpleNamespace(reproduce=reproduce, PRIMARY=("slope",))
    monkeypatch.setitem(sys.modules, "letheon_fake_paper", module)
    entry, planned = (
        replace(paper("gu"), module="letheon_fake_paper", claim=OUTCOME.claim),
        replace(paper("uer"), module=""),
    )
    monkeypatch.setattr(catalogue, "_discovered", lambda: (entry, planned))
    monkeypatch.setattr(catalogue, "RESULTS", tmp_path / "results.json")
    (tmp_path / "results.json").write_text("{}")
    monkeypatch.chdir(tmp_path)


def test_the_listing_has_a_line_for_every_paper(capsys: pytest.CaptureFixture[str]) -> None:
    page.list_papers(as_json=True)
    lines = json.loads(capsys.readouterr().out)
    assert len(lines) == len(papers())
    assert set(lines[0]) == {"number", "key", "title", "room", "badge", "verdict", "rule", "current"}


def test_a_narrow_screen_still_shows_every_key_and_badge(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page.list_papers()
    head, *lines = capsys.readouterr().out.splitlines()
    assert "* judged by an earlier rule" in lines.pop()  # in one line
    assert head.split() == ["key", "title", "room", "badge", "verdict"]
    assert len(lines) == len(papers())
    for line, facts in zip(lines, page.listing_json(), strict=True):
        assert line.split()[:2] == [str(facts["number"]), facts["key"]]
        assert line.split()[-2] == facts["badge"]
        assert line.split()[-1].rstrip("*") == facts["verdict"] or "-"


@pytest.mark.usefixtures("gu_runs")
def test_a_paper_that_was_not_run_says_so_and_one_that_was_shows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page.show_paper("gu")
    assert "not measured yet" in capsys.readouterr().out
    catalogue.record(OUTCOME, Scale())
    page.show_paper(4)
    shown = capsys.readouterr().out
    assert "not measured yet" not in shown
    assert "recorded result" in shown
    page.show_paper("2511.17100", as_json=True)
    assert json.loads(capsys.readouterr().out)["result"]["verdict"] == "holds"


def test_a_page_names_authors_abstract_and_links_where_the_catalogue_has_them() -> None:
    entry = replace(paper("gu"), authors=("Ann Lee", "Bo Wu"), abstract="In short.", links={"code": "https://a.b/c"})
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(page.paper_page(entry))
    text = console.export_text()
    assert all(part in text for part in ("Ann Lee, Bo Wu", "In short.", "https://a.b/c"))
    assert page.paper_json(entry)["links"] == {"code": "https://a.b/c"}


@pytest.mark.usefixtures("gu_runs")
def test_a_run_prints_its_outcome_and_leaves_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    page.run_paper("gu", Scale(seeds=(7, 8)), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    folder = Path("letheon-papers/gu")
    assert printed == json.loads((folder / "outcome.json").read_text())
    assert printed["seeds"] == [7, 8]
    assert {file.name for file in folder.iterdir()} == {
        "outcome.json",
        "rows.json",
        "slope.svg",
        "index.html",
    }
    assert catalogue.read_results() == {}, "nothing is recorded unless asked for"


@pytest.mark.usefixtures("gu_runs")
def test_a_run_is_recorded_when_asked(tmp_path: Path) -> None:
    page.run_paper("gu", Scale(), record=True, out=tmp_path / "here")
    assert catalogue.read_results()["gu"]["verdict"] == "holds"


@pytest.mark.usefixtures("gu_runs")
def test_the_saved_page_stands_alone_and_escapes_what_it_shows(tmp_path: Path) -> None:
    page.run_paper("gu", Scale(), out=tmp_path / "here")
    html = (tmp_path / "here" / "index.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "data:image/svg+xml;base64," in html
    assert "plain, pcgrad" in html
    assert "http://" not in html
    assert "https://" not in html


@pytest.mark.usefixtures("gu_runs")
def test_a_planned_paper_names_those_that_can_be_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'uer' is planned.*\ncan be run: gu"):
        page.run_paper("uer", Scale(), out=tmp_path / "here")
    assert not (tmp_path / "here").exists()


@pytest.mark.usefixtures("gu_runs")
def test_a_place_that_cannot_be_a_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be a folder"):
        page.run_paper("gu", Scale(), out=tmp_path / "file")


@pytest.mark.usefixtures("gu_runs")
def test_a_figure_cannot_be_written_outside_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(PRIMARY=(), reproduce=lambda scale, found: found.figures.update({"../astray": "<svg/>"}))
    monkeypatch.setitem(sys.modules, "letheon_fake_paper", module)
    astray = replace(paper("gu"), module="letheon_fake_paper")
    monkeypatch.setattr(catalogue, "_discovered", lambda: (astray,))
    with pytest.raises(LetheonError, match="names a figure"):
        page.run_paper("gu", Scale(), out=tmp_path / "here")
    assert not (tmp_path / "astray.svg").exists()


def test_an_outcome_page_names_verdict_baselines_and_what_was_not_computed() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(page.outcome_page(OUTCOME))
    text = console.export_text()
    for part in ("holds", "plain, pcgrad", "1.981", "not computed", "[1.9, 2.1]", "[bold]"):
        assert part in text


def test_values_are_readable() -> None:
    assert readable({"plain": 0.123456, "gu": [1, 2.0]}) == "plain 0.1235, gu [1, 2]"
