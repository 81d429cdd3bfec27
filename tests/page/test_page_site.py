"""The site: every page answers, forms need their token, hostile texts stay texts, nothing leaves its folder."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient

from letheon.page.app import create_app
from letheon.page.entries import Entry, catalogue_entries
from letheon.page.library import Library
from letheon.page.listing import Filters, day_of, list_entries
from letheon.page.outcomes import is_outcome, read_outcome
from letheon.page.security import inside
from letheon.page.shelf import Mark, Shelf
from letheon.papers.catalogue import paper, papers, read_results
from letheon.papers.page import listing_json, paper_json
from letheon.papers.results_page import parts
from tests.page.conftest import HOSTILE

PAGES = (
    *("/", "/?wing=probe&sort=quickest", "/papers/gu", "/papers/uer", "/papers/gu/code", "/papers/hostile-0"),
    *("/search", "/search?q=sinks", "/map", "/runs", "/api"),
)


@pytest.mark.parametrize("address", PAGES)
def test_every_page_answers_with_its_headers_and_loads_nothing_foreign(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]+)"', answer.text)
    assert all(name.startswith(("/static/", "data:", "/feed.")) for name in loaded)
    assert not re.search(r"<script(?! src)|<[^<>]*\s(style|on\w+)=", answer.text)
    assert answer.text.count("<h1") == 1
    assert len(answer.content) < 100_000


def test_hostile_titles_and_abstracts_are_text(client: TestClient, token: str) -> None:
    client.post("/papers/hostile-0/note", data={"token": token, "text": HOSTILE[2]})
    for address in ("/", "/papers/hostile-0", "/papers/hostile-3", "/search?q=document", "/map"):
        text = client.get(address).text
        for tag in ("<img", "<svg onload", "<script>document"):
            assert tag not in text, address
        assert not set(text) & set("\u202e\u2066\x00\x1b")
    assert "49" not in re.findall(r"<h1>.*</h1>", client.get("/papers/hostile-3").text)[0]
    assert "<img" not in client.get("/search", params={"q": HOSTILE[1]}).text


def test_a_form_without_its_token_is_refused(client: TestClient, token: str, shelf: Shelf) -> None:
    for data in ({}, {"token": ""}, {"token": token + "x"}):
        assert client.post("/papers/gu/marks", data={"starred": "on", **data}).status_code == 403
    form = {"starred": "on", "token": token}
    assert client.post("/papers/gu/marks", data=form, headers={"origin": "http://evil.example"}).status_code == 403
    client.cookies.clear()
    assert client.post("/papers/gu/marks", data=form).status_code == 403
    assert shelf.marks() == {}


def test_stars_lists_and_notes(client: TestClient, token: str, shelf: Shelf) -> None:
    answer = client.post(
        "/papers/gu/marks", data={"starred": "on", "token": token, "back": "/"}, follow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    piece = client.post(
        "/papers/gu/marks", data={"later": "on"}, headers={"X-Letheon-Token": token, "HX-Request": "true"}
    )
    assert piece.text.strip().startswith("<form")
    client.post("/papers/gu/note", data={"text": " Eq. 3 ", "token": token})
    assert shelf.marks() == {"gu": Mark(True, True, "Eq. 3")}
    assert "1 paper " in client.get("/?mine=starred").text
    assert client.post("/papers/none/marks", data={"starred": "on", "token": token}).status_code == 404


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil.example", "/\r\nx: y"])
def test_a_form_leads_to_this_site_alone(client: TestClient, token: str, back: str) -> None:
    form = {"starred": "on", "token": token, "back": back}
    assert client.post("/papers/gu/marks", data=form, follow_redirects=False).headers["location"] == "/papers/gu"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1:8457", "", "[::1"])
def test_other_names_of_the_machine_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "localhost:8457", "127.0.0.1", "[::1]:8457"])
def test_loopback_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/runs", headers={"host": host}).status_code == 200


def test_large_uploads_are_refused(client: TestClient, token: str) -> None:
    big = b"x" * 20_000_001
    assert client.post("/papers/gu/note", content=big).status_code == 413
    pieces = (big[: 1 << 20] for _ in range(21))
    headers = {"X-Letheon-Token": token, "Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/papers/gu/note", content=pieces, headers=headers).status_code == 413


def test_no_path_leaves_its_folder(client: TestClient, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "in").write_text("x")
    (tmp_path / "out").write_text("secret")
    (root / "link").symlink_to(tmp_path / "out")
    assert inside(root, "in") == root / "in"
    for name in ("../out", "link", "/etc/passwd", "none", "a\0b", "../root/../out", "x" * 5000):
        with pytest.raises(HTTPException):
            inside(root, name)
    for address in ("/static/../app.py", "/static/%2e%2e/app.py", "/papers/..%2f..%2fapp/code", "/papers/%00"):
        assert client.get(address).status_code == 404, address


def test_the_api_prints_what_the_command_line_prints(client: TestClient) -> None:
    assert client.get("/api/papers").json()[: len(papers())] == json.loads(json.dumps(listing_json()))
    assert client.get("/api/papers/gu").json() == json.loads(json.dumps(paper_json(paper("gu"))))
    answer = client.get("/api/search", params={"q": "hyperatention"}).json()
    assert [line["key"] for line in answer["papers"]] == ["hyperattention"]
    assert answer["corrected"] == {"hyperatention": "hyperattention"}
    assert "words alone" in answer["note"]
    assert set(client.get("/api/openapi.json").json()["paths"]) == {"/api/papers", "/api/papers/{key}", "/api/search"}
    assert client.get("/api/papers/none").json()["error"]["problem"] == "There is no such paper."


def test_a_run_is_queued_followed_and_cancelled(client: TestClient, token: str) -> None:
    queue = client.app.state.site.queue  # type: ignore[attr-defined]
    queue.close()  # nothing starts
    answer = client.post("/papers/gu/run", data={"token": token, "seeds": "2"}, follow_redirects=False)
    assert answer.headers["location"] == "/runs/1"
    run = queue.run(1)
    assert run.arguments == ("papers", "run", "gu", "--fast", "--seeds", "2", "--out", "FOLDER/out", "--json")
    assert "queued" in client.get("/runs/1").text
    assert "run 1 does the same" in client.post("/papers/gu/run", data={"token": token, "seeds": "2"}).text
    client.post("/runs/1/cancel", data={"token": token})
    events = client.get("/runs/1/events").text
    assert json.loads(events.removeprefix("data: "))["state"] == "cancelled"
    for form in ({"scale": "huge"}, {"seeds": "-1"}, {"seeds": "x"}):
        assert client.post("/papers/gu/run", data={"token": token, **form}).status_code == 400
    assert client.post("/papers/hostile-0/run", data={"token": token}).status_code == 404


def test_a_finished_run_stands_beside_the_record(client: TestClient, token: str) -> None:
    queue = client.app.state.site.queue  # type: ignore[attr-defined]
    queue.close()
    number = queue.add("paper", "uer", ["x"])
    queue._set(number, state="done", started=1.0, ended=31.0)
    folder = queue.folder / str(number) / "out"
    folder.mkdir(parents=True)
    (folder / "outcome.json").write_text(json.dumps({**read_results()["uer"], "verdict": "fails"}))
    text = client.get(f"/runs/{number}").text
    assert "The verdict differs from the recorded one." in text
    assert f'href="/runs/{number}"' in client.get("/papers/uer").text


def test_verdicts_of_an_earlier_rule_are_marked_everywhere(client: TestClient) -> None:
    old = [entry for entry in catalogue_entries() if entry.verdict and not entry.current]
    if not old:
        pytest.skip("every record is judged by the present rule")
    entry = old[0]
    assert entry.seconds is None
    for address in (f"/papers/{entry.key}", f"/?verdict={entry.verdict}*", f"/search?q={entry.key}"):
        assert f"{entry.verdict}* by an earlier rule" in client.get(address).text, address
    plain = client.get("/", params={"verdict": entry.verdict}).text
    assert f'href="/papers/{entry.key}"' not in plain
    line = next(line for line in client.get("/api/papers").json() if line["key"] == entry.key)
    assert line["current"] is False


def test_the_list_explains_its_words_and_a_paper_leads_to_its_run(client: TestClient, shelf: Shelf) -> None:
    page = client.get("/").text
    for word in ("Wing", "Badge", "Verdict", "Reconstructed", "*"):
        assert re.search(rf"<(dt|em)>{re.escape(word)}</", page)
    assert 'hx-select-oob="#choices"' in page
    assert '<a href="#run">Run it</a>' in client.get("/papers/gu").text
    shelf.add([Entry("voted", "A paper with votes", votes=7, author_count=1)])
    assert "7 votes" in client.get("/search?q=votes").text
    assert "7 votes" in client.get("/papers/voted").text


@pytest.mark.parametrize("number", ["99999999999999999999999999", "-1", "x", "4611686018427387904"])
def test_numbers_of_runs_have_bounds(client: TestClient, number: str) -> None:
    for address in (f"/runs/{number}", f"/runs/{number}/events", f"/studio/runs/{number}/report"):
        assert client.get(address).status_code in (400, 404)


def test_only_whole_outcomes_inside_their_folder_are_read(tmp_path: Path) -> None:
    results = read_results()
    assert all(is_outcome({**result, "key": key}) for key, result in results.items())
    whole = {**results["uer"], "key": "uer"}
    file = tmp_path / "in" / "outcome.json"
    file.parent.mkdir()
    for name, value in (
        *(("seeds", 3), ("seconds", "1"), ("seconds", True), ("baselines", [1]), ("verdict", "great"), ("date", 5)),
        *(("machine", {"cpu": "x"}), ("checks", []), ("measured", []), ("primary", {"a": {}}), ("beside", {"a": 1})),
        *(("interval", {"a": [1]}), ("interval", "x"), ("seconds", float("inf"))),
        ("primary", {"a": {"verdict": "holds", "p": "0"}}),
    ):
        file.write_text(json.dumps({**whole, name: value}))
        assert read_outcome(file.parent) is None, name
    file.write_text(json.dumps(whole))
    assert read_outcome(file.parent) == whole
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "outcome.json").symlink_to(file)
    assert read_outcome(tmp_path / "link") is None
    assert read_outcome(tmp_path / "link", tmp_path) == whole


def test_the_log_of_a_run_hides_nothing(client: TestClient) -> None:
    queue = client.app.state.site.queue  # type: ignore[attr-defined]
    queue.close()
    number = queue.add("paper", "uer", ["x"])
    (queue.folder / str(number)).mkdir(parents=True)
    (queue.folder / str(number) / "log.txt").write_text("seeds\u202e: 1/2 \u202ex\n\x1b[31m")
    queue.cancel(number)
    event = json.loads(client.get(f"/runs/{number}/events").text.removeprefix("data: "))
    assert not set(event["log"] + event["words"]) & set("\u202e\x1b")
    assert event["took"] == ""


def test_the_map_says_when_it_cannot_be_drawn(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from letheon.page import meaning

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(meaning, "load_meaning", full)
    with TestClient(create_app(shelf, cache=tmp_path), base_url="http://127.0.0.1:8457") as client:
        client.app.state.site.library.ready()  # type: ignore[attr-defined]
        assert "could not be computed (OSError)" in client.get("/map").text
        assert "could not be computed (OSError)" in client.get("/search?q=sinks").text


def test_a_locked_file_is_said(client: TestClient, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(Shelf, "star", locked)
    answer = client.post("/papers/gu/marks", data={"starred": "on", "token": token})
    assert answer.status_code == 503
    assert "Try again in a moment" in answer.text


def test_one_seed_is_one_and_too_few_values_are_not_equal_ones(client: TestClient) -> None:
    result = {**read_results()["uer"], "seeds": [0], "interval": {"a": None}}
    result |= {"primary": {"a": {"verdict": "inconclusive", "mean": 1.0, "p": 1.0, "above": 0.0}}, "beside": {}}
    assert parts(result)[0].interval == "none (too few values)"
    assert parts({**result, "seeds": [0, 1]})[0].interval == "none (equal values)"


def test_days_and_months_are_headings() -> None:
    assert [day_of(text) for text in ("2025-03", "2025-03-04", "", "soon", "2025-13")] == [
        "March 2025", "4 March 2025", "Date unknown", "Date unknown", "Date unknown",
    ]  # fmt: skip


def test_the_list_is_filtered_sorted_counted_and_cut() -> None:
    entries = [
        Entry(f"k{i}", f"T{i}", date=f"202{i % 3}-01-0{i % 9 + 1}", wing="ab"[i % 2], seconds=float(i))
        for i in range(90)
    ]
    listing = list_entries(entries, Filters(wing="a", quick="1", page=9), {}, per_page=10)
    assert (listing.total, listing.pages) == (30, 3)
    assert listing.counts["wing"] == {"a": 30, "b": 30}
    assert listing.counts["year"] == {"2022": 10, "2021": 10, "2020": 10}
    first = list_entries(entries, Filters(sort="quickest"), {}).groups[0][1]
    assert [entry.key for entry in first[:3]] == ["k0", "k1", "k2"]
    dates = [entry.date for _, some in list_entries(entries, Filters(), {}).groups for entry in some]
    assert dates == sorted(dates, reverse=True)


def test_imports_are_seen_without_a_restart(client: TestClient, shelf: Shelf) -> None:
    Shelf(shelf.path).add([Entry("late", "A late arrival")])
    assert "A late arrival" in client.get("/search?q=arrival").text


def test_the_search_says_why_it_goes_by_words_alone(shelf: Shelf, tmp_path: Path, monkeypatch) -> None:
    from letheon.page import meaning

    monkeypatch.setattr(meaning, "layout", lambda vectors: vectors[:, :2])
    monkeypatch.setattr(shelf, "entries", lambda: list(catalogue_entries()[:8]))
    snapshot = Library(shelf, str(tmp_path / "nothing"), tmp_path).ready()
    assert "holds no sentence encoder" in snapshot.note
    assert snapshot.like("gu"), "likeness by words"
