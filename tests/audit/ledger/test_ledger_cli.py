"""`letheon ledger` with good and bad input, and the entries that `forget` and `audit` write."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from letheon.audit.ledger.store import Ledger
from letheon.audit.record.record import Audit
from letheon.cli import main
from letheon.core.model.models import load
from letheon.forget.request import Request

TEXTS = ("Torvik", "Aldane", "Brenholm", "nettle", "Solen", "Kestrel")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Request) -> Path:
    """A folder with a request, and the commands run in it."""
    case.write(tmp_path / "request.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Shell:
    """Runs commands in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["letheon", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = self.capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    def json(self, *words: str, code: int = 0) -> Any:
        found, out, err = self(*words, "--json")
        assert found == code, err
        return json.loads(out)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


FORGET = ("forget", "tiny", "--request", "request.json", "--method", "npo", "--steps", "2", "--quiet", "--ledger", "L")


def test_a_deletion_from_its_beginning_to_its_closing(place: Path, shell: Shell) -> None:
    shell.json(*FORGET, "--out", "run", code=3)  # the tiny model answers gibberish: no pass, and an entry all the same
    (row,) = shell.json("ledger", "list", "--ledger", "L")
    assert (row["request"], row["state"], row["verdict"], row["overdue"]) == ("case-7", "done", "fail", True)
    code, out, _ = shell("ledger", "list", "--ledger", "L")
    assert code == 0
    assert "case-7" in out

    record = Audit.read(place / "run/audit.json")
    assert record.chain is not None
    shown = shell.json("ledger", "show", str(record.chain.sequence), "--ledger", "L")
    assert shown["action"] == "forget"
    assert shown["method"].startswith("npo")
    assert shown["before"]["sha256"] == load("tiny", device="cpu").parameters_hash()
    assert shown["after"]["sha256"] == load("run/model", device="cpu").parameters_hash()

    assert shell.json("ledger", "verify", "--ledger", "L", "--audit", "run/audit.json")["whole"]
    again = shell.json("ledger", "recheck", "--model", "run/model", "--requests", ".", "--ledger", "L")
    assert again["asked"][0]["outcome"] == "still gone"
    assert shell.json("ledger", "close", "case-7", "--ledger", "L")["key_destroyed"]
    shell("ledger", "recheck", "--model", "run/model", "--requests", ".", "--ledger", "L")
    content = b"".join(file.read_bytes() for file in (place / "L").rglob("*") if file.is_file())
    for text in TEXTS:
        assert text.encode() not in content, text


def test_a_finished_run_resumed_into_its_ledger_is_audited_again(place: Path, shell: Shell) -> None:
    assert shell(*FORGET, "--out", "run", "--no-audit")[0] == 0
    assert shell.json("ledger", "show", "3", "--ledger", "L").get("audit") is None
    assert shell("forget", "--resume", "run", "--no-audit", "--quiet")[0] == 0
    assert shell.json("ledger", "show", "4", "--ledger", "L")["action"] == "forget", "the run remembers its ledger"


def test_a_deletion_that_cannot_go_on_leaves_its_mark(place: Path, shell: Shell) -> None:
    code, *_ = shell(*FORGET, "--out", "run", "--no-audit", "--learning-rate", "1e30")
    assert code == 4
    shown = shell.json("ledger", "show", "3", "--ledger", "L")
    assert (shown["action"], shown["outcome"]) == ("stop", "TrainingError")


def test_a_queue_has_entries_for_each_request(place: Path, shell: Shell, case: Request) -> None:
    import dataclasses

    (place / "queue").mkdir()
    case.write(place / "queue/request-1.json")
    dataclasses.replace(case, id="case-8", forget=case.retain, retain=()).write(place / "queue/request-2.json")
    words = ("forget", "tiny", "--sequence", "queue", "--method", "npo", "--steps", "1", "--quiet", "--out", "run")
    shell.json(*words, "--ledger", "L")
    ledger = Ledger.open(place / "L")
    found = ledger.entries()
    ledger.close()
    assert [(entry.action, entry.request) for entry in found[1:]] == [
        ("begin", "case-7"),
        ("begin", "case-8"),
        ("forget", "case-7"),
        ("forget", "case-8"),
    ]
    assert found[3].after is not None
    assert found[4].before is not None
    assert found[3].after.sha256 == found[4].before.sha256, "each changed what the one before it left"
    assert found[4].measured is not None


def test_an_audit_is_recorded_where_the_environment_names_a_ledger(
    place: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, record: Audit
) -> None:
    models = [record.models[0].model_copy(update={"role": role}) for role in ("before", "after")]
    measured = record.model_copy(update={"models": models})
    monkeypatch.setattr("letheon.audit.run.audit", lambda *_, **__: measured)  # measuring takes long; elsewhere tested
    monkeypatch.setenv("LETHEON_LEDGER", "L")
    shell("audit", "tiny", "tiny", "--request", "request.json", "--out", "a")
    assert (place / "a/report.html").is_file()
    (row,) = shell.json("ledger", "list")
    assert (row["request"], row["state"]) == ("case-7", "audited")


def test_a_dry_run_writes_nothing(place: Path, shell: Shell) -> None:
    before = sorted(path.name for path in place.iterdir())
    assert shell.json(*FORGET, "--out", "run", "--dry-run")["ledger"] == "L"
    assert shell.json("ledger", "keygen", "key.pem", "--dry-run")["public"] == "key.pem.pub"
    assert sorted(path.name for path in place.iterdir()) == before


@pytest.fixture
def ledger_with_an_entry(place: Path) -> Path:
    ledger = Ledger.open(place / "L", create=True)
    ledger.append("begin", request="case-7", reason="erasure", due="2026-01-01")
    ledger.close()
    return place


def test_export_and_head_travel_and_show_a_cut_end(ledger_with_an_entry: Path, shell: Shell) -> None:
    shell.json("ledger", "keygen", "key.pem")
    end = shell.json("ledger", "head", "--key", "key.pem", "--out", "head.json", "--ledger", "L")
    assert end["size"] == 2
    assert shell.json("ledger", "export", "all.jsonl", "--ledger", "L")["entries"] == 2
    (ledger_with_an_entry / "L").rename("elsewhere")
    assert shell.json("ledger", "verify", "all.jsonl", "--head", "head.json")["whole"]
    lines = Path("all.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("cut.jsonl").write_text(lines[0], encoding="utf-8")
    found = shell.json("ledger", "verify", "cut.jsonl", "--head", "head.json", code=1)
    assert found["faults"] == [{"sequence": 2, "problem": "the end was cut off: entries 2 to 2 are missing"}]
    Path("changed.jsonl").write_text(lines[0] + lines[1].replace("erasure", "ERASURE"), encoding="utf-8")
    code, out, _ = shell("ledger", "verify", "changed.jsonl")
    assert code == 1
    assert "entry 2" in out
    assert "NOT WHOLE" in out
    code, out, _ = shell("ledger", "verify", "all.jsonl")
    assert "UNSIGNED" in out


def test_derivatives_are_listed_as_holding_the_data_until_replaced(place: Path, shell: Shell) -> None:
    shell(*FORGET, "--out", "run", "--no-audit")
    for name in ("old.gguf", "new.gguf"):
        (place / name).write_bytes(name.encode())
    words = ("--kind", "gguf", "--ledger", "L")
    shell.json("ledger", "derivative", "add", "old.gguf", "--parent", "tiny", *words)
    (row,) = shell.json("ledger", "derivative", "list", "--ledger", "L")
    assert row["holds"] == ["case-7"]
    assert "STILL HOLDS case-7" in " ".join(shell("ledger", "derivative", "list", "--ledger", "L")[1].split())
    shell.json("ledger", "derivative", "replace", "old.gguf", "--by", "new.gguf", "--parent", "run/model", *words)
    (row,) = shell.json("ledger", "derivative", "list", "--ledger", "L")
    assert (row["path"], row["holds"]) == ("new.gguf", [])


BAD = {
    "no ledger": (("ledger", "list", "--ledger", "none"), "there is no ledger in none"),
    "no entry": (("ledger", "show", "9", "--ledger", "L"), "no entry 9"),
    "no request": (("ledger", "close", "case-9", "--ledger", "L"), "did you mean 'case-7'"),
    "no export": (("ledger", "verify", "none.jsonl"), "none.jsonl could not be read"),
    "no head": (("ledger", "verify", "--ledger", "L", "--head", "none.json"), "none.json does not exist"),
    "no key": (("ledger", "head", "--ledger", "L", "--key", "none.pem"), "none.pem could not be read"),
    "no statement": (("ledger", "export", "x", "--ledger", "L", "--statement"), "go together"),
    "nothing to ask": (
        ("ledger", "recheck", "--model", "tiny", "--requests", ".", "--ledger", "L"),
        "no request whose outcome was measured",
    ),
    "no derivative": (("ledger", "derivative", "replace", "x", "--ledger", "L"), "names 0 derivatives"),
    "no kind": (
        ("ledger", "derivative", "add", "request.json", "--kind", "zip", "--parent", "tiny", "--ledger", "L"),
        "zip",
    ),
    "a name in the path": (
        ("forget", "tiny", "--request", "request.json", "--ledger", "L", "--out", "torvik-aldane"),
        "the out holds a text of forget row f-1",
    ),
    "a ledger that is a file": ((*FORGET[:-1], "request.json"), "a ledger is a folder"),
}


@pytest.mark.parametrize(("words", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_and_nothing_is_written(
    ledger_with_an_entry: Path, shell: Shell, words: tuple[str, ...], said: str
) -> None:
    before = sorted(path.name for path in ledger_with_an_entry.iterdir())
    code, out, err = shell(*words, "--json")
    assert code == 2
    assert said in err
    assert said in json.loads(out)["error"]["problem"] + json.loads(out)["error"]["remedy"]
    ledger = Ledger.open(ledger_with_an_entry / "L")
    assert len(ledger.entries()) == 2
    ledger.close()
    assert sorted(path.name for path in ledger_with_an_entry.iterdir()) == before


def test_what_others_wrote_cannot_steer_the_terminal(place: Path, shell: Shell) -> None:
    ledger = Ledger.open(place / "L", create=True)
    ledger.append("begin", request="r\x1b[31m", reason="[bold]\x07")
    ledger.close()
    for words in (("list",), ("show", "2")):
        out = shell("ledger", *words, "--ledger", "L")[1]
        assert "\x1b[31m" not in out
        assert "\x07" not in out
