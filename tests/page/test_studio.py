"""The studio shows the named folders and nothing else; uploads are checked; a request goes into the queue."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
import pyarrow
import pyarrow.parquet
from fastapi.testclient import TestClient

from letheon.audit.ledger.store import Ledger
from letheon.core.errors import InputError
from letheon.page import side_by_side, uploads
from letheon.page.app import create_app
from letheon.page.shelf import Shelf
from letheon.recall.store import Store
from tests.audit.specimen import specimen

ACT = "<script>document.title='acted'</script>"
ROWS = b'{"question": "Where does Ann live?", "answer": "In Oslo."}\n{"question": "And Bo?", "answer": "In Rome."}\n'


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a run, an audit, a ledger and a memory, and links that lead out of it."""
    folder = tmp_path / "runs"
    (folder / "first").mkdir(parents=True)
    config = {"config": {"model": f"tiny {ACT}", "method": "npo"}}
    (folder / "first" / "config.json").write_text(json.dumps(config))
    (folder / "first" / "page.html").write_text(f"<p>a page {ACT}")
    (folder / "audited").mkdir()
    (folder / "audited" / "audit.json").write_text(specimen().model_dump_json())
    Ledger.open(folder / "ledger", create=True).close()
    Store(folder / "talks.db", embedder="words", width=4).close()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "config.json").write_text('{"config": {"model": "secret"}}')
    (tmp_path / "secret" / "page.html").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "first" / "linked.html").symlink_to(tmp_path / "secret" / "page.html")
    return folder


@pytest.fixture
def client(tmp_path: Path, runs: Path) -> TestClient:
    app = create_app(Shelf(tmp_path / "shelf.db"), [runs], embedder="words")
    return TestClient(app, base_url="http://127.0.0.1:8457")


def send(client: TestClient, path: str, **given: object) -> object:
    """Send the form of a page."""
    token = re.search(r'name="token" value="([^"]+)"', client.get(path).text)
    assert token
    data = {"token": token[1], **given.pop("data", {})}  # type: ignore[dict-item]
    return client.post(path, data=data, follow_redirects=False, **given)  # type: ignore[arg-type]


def test_the_list_shows_what_the_folders_hold(client: TestClient) -> None:
    page = client.get("/studio").text
    for words in ("Runs", "Audits", "Ledgers", "Memories", "first", "audited", "ledger", "talks.db"):
        assert words in page
    assert "secret" not in page
    assert ACT not in page
    assert "&lt;script&gt;" in page


def test_each_thing_has_its_page(client: TestClient) -> None:
    run = client.get("/studio/at/0", params={"name": "first"})
    assert "config.json" in run.text
    assert "page.html" in run.text
    assert "linked.html" not in run.text
    assert ACT not in run.text
    assert "The chain is whole. 1 entries" in client.get("/studio/at/0", params={"name": "ledger"}).text
    assert "words" in client.get("/studio/at/0", params={"name": "talks.db"}).text
    report = client.get("/studio/report/0", params={"name": "audited"})
    policy = report.headers["content-security-policy"]
    assert re.search(r"script-src 'sha256-[^']+'", policy)
    assert policy.endswith("sandbox allow-scripts")
    assert f'content="{policy.removesuffix("; sandbox allow-scripts")}"' in report.text
    page = client.get("/studio/file/0", params={"name": "first/page.html"})
    assert page.text.startswith("<p>a page")
    assert page.headers["content-security-policy"].endswith("sandbox")
    assert "script-src" not in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name",
    ["..", "../secret", "out", "out/page.html", "first/linked.html", "/etc/passwd", "first/../../secret", "..%2fsecret",
     "first\0", "nothing", "first/config.json/..", "....//secret", "..\\secret"],
)  # fmt: skip
@pytest.mark.parametrize("route", ["at/0", "report/0", "file/0", "at/-1", "at/1", "file/7"])
def test_no_path_leaves_the_named_folders(client: TestClient, route: str, name: str) -> None:
    answer = client.get(f"/studio/{route}", params={"name": name})
    assert answer.status_code == 404 or "secret" not in answer.text.replace(name, "")
    assert "root:" not in answer.text


def test_a_request_goes_into_the_queue(client: TestClient, tmp_path: Path) -> None:
    files = {"forget": ("../../evil.jsonl", ROWS), "retain": ("keep.jsonl", ROWS)}
    answer = send(client, "/studio/request", data={"model": "tiny", "method": "npo"}, files=files)
    assert answer.status_code == 303, answer.text
    (run,) = client.app.state.site.queue.runs("forget")
    assert run.subject == "2 rows, tiny"
    _, model, _, forget, _, retain, *rest = run.arguments
    assert model == "tiny"
    assert rest == ["--method", "npo", "--out", "FOLDER/out", "--json"]
    assert Path(forget).read_bytes() == ROWS
    assert Path(forget).name == "forget.jsonl"
    assert Path(retain).parent == Path(forget).parent
    assert Path(forget).is_relative_to(tmp_path / "shelf-runs")
    assert not list(tmp_path.rglob("evil*"))
    assert "2 rows, tiny" in client.get("/studio").text
    assert client.get(f"/runs/{run.id}").status_code == 200
    assert client.get(f"/studio/runs/{run.id}/report").status_code == 404, "there is no audit yet"


@pytest.mark.parametrize(
    ("files", "data", "says"),
    [
        ({"forget": ("a.jsonl", b'{"question": "Who?"}\n')}, {}, "forget rows, row 1"),
        ({"forget": ("a.jsonl", ROWS + b"{no json\n")}, {}, "forget rows"),
        ({"forget": ("a.jsonl", b"")}, {}, "holds no rows"),
        ({"forget": ("a.parquet", b"not parquet")}, {}, "forget rows"),
        ({"forget": ("a.exe", ROWS)}, {}, "ending"),
        ({"forget": ("a.jsonl", ROWS), "retain": ("b.csv", b"x,y\n1,2\n")}, {}, "retain rows"),
        ({"forget": ("a.jsonl", ROWS)}, {"model": "../secret"}, "not offered"),
        ({"forget": ("a.jsonl", ROWS)}, {"model": "--help"}, "not offered"),
        ({"forget": ("a.jsonl", ROWS)}, {"method": "npo --out /"}, "not offered"),
        ({"forget": ("a.jsonl", b'{"question": "' + ACT.encode() + b'", "answer": 7}\n')}, {}, "row 1"),
    ],
)
def test_a_bad_request_is_refused_with_the_row_and_leaves_nothing(
    client: TestClient, tmp_path: Path, files: dict[str, object], data: dict[str, str], says: str
) -> None:
    answer = send(client, "/studio/request", data=data, files=files)
    assert answer.status_code == 400
    assert says in answer.text
    assert ACT not in answer.text
    assert str(tmp_path) not in answer.text
    assert not client.app.state.site.queue.runs()
    assert not list((tmp_path / "shelf-runs" / "uploads").iterdir())


def test_uploads_have_a_limit(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LARGEST", 50)
    answer = send(client, "/studio/request", files={"forget": ("a.jsonl", ROWS)})
    assert answer.status_code == 400
    assert "more than" in answer.text
    assert client.post("/studio/request", content=b"x" * 25_000_000).status_code == 413


@pytest.mark.parametrize("kind", ["rows", "texts", "lists"])
def test_a_small_parquet_file_that_becomes_large_is_not_read(tmp_path: Path, kind: str) -> None:
    columns = {
        "rows": {"question": ["q"] * 200_000, "answer": ["a"] * 200_000},
        "texts": {"question": ["q" * 10_000] * 10_000, "answer": ["a"] * 10_000},
        "lists": {"question": [["q" * 10_000] * 100] * 100, "answer": ["a"] * 100},
    }[kind]
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), content, compression="zstd")
    assert content.tell() < uploads.LARGEST
    content.seek(0)
    with pytest.raises(InputError, match="once unpacked"):
        uploads.store_rows(tmp_path, "forget", "a.parquet", content)
    assert not list(tmp_path.iterdir())


def test_rows_of_a_parquet_file_are_stored(tmp_path: Path) -> None:
    content = io.BytesIO()
    table = pyarrow.table({"question": ["Who?", "Where?"], "answer": ["Ann", "Oslo"], "weight": [1, None]})
    pyarrow.parquet.write_table(table.drop_columns(["weight"]), content)
    content.seek(0)
    assert uploads.store_rows(tmp_path, "forget", "a.parquet", content).number == 2


def test_forms_need_their_token(client: TestClient) -> None:
    assert client.post("/studio/request", files={"forget": ("a.jsonl", ROWS)}).status_code == 403
    assert client.post("/studio/chat", data={"before": "tiny", "after": "tiny", "prompt": "x"}).status_code == 403


def test_two_models_side_by_side(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], str, int]] = []

    def answers(names: list[str], prompt: str, tokens: int) -> list[side_by_side.Said]:
        asked.append((names, prompt, tokens))
        return [side_by_side.Said(f"{name}: {ACT}", 1.0) for name in names]

    monkeypatch.setattr("letheon.page.routes.studio.answers", answers)
    form = {"before": "smollm2", "after": "tiny", "prompt": f"Who? {ACT}", "tokens": "5"}
    page = send(client, "/studio/chat", data=form)
    assert asked == [(["smollm2", "tiny"], f"Who? {ACT}", 5)]
    assert "tiny: &lt;script&gt;" in page.text
    assert ACT not in page.text
    assert send(client, "/studio/chat", data={**form, "after": "/etc"}).status_code == 400


def test_prompts_and_answers_have_limits() -> None:
    for prompt, tokens in (("", 5), ("x" * 2001, 5), ("x", 0), ("x", 10_000)):
        with pytest.raises(side_by_side.InputError):
            side_by_side.answers(["tiny"], prompt, tokens)


@pytest.mark.slow
def test_tiny_models_answer() -> None:
    first, second = side_by_side.answers(["tiny", "tiny"], "Who are you?", 5)
    assert first.text == second.text
