"""The site: every page answers, forms need their token, hostile texts stay texts, nothing leaves its folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient

from letheon.page.entries import Entry, catalogue_entries
from letheon.page.library import Library
from letheon.page.listing import Filters, day_of, list_entries
from letheon.page.security import inside
from letheon.page.shelf import Mark, Shelf
from letheon.papers.catalogue import paper, papers
from letheon.papers.page import listing_json, paper_json
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
    assert all(name.startswith(("/static/", "data:")) for name in loaded)
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
    for address in ("/papers/hostile-0/run", "/papers/rhea/run"):
        assert client.post(address, data={"token": token}).status_code == 404


def test_a_finished_run_stands_beside_the_record(client: TestClient, token: str) -> None:
    from letheon.papers.catalogue import read_results

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
