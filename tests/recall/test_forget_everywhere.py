"""What is erased from a memory: its entry in the ledger, which quotes nothing, and the same in a model's weights."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from letheon.audit.ledger.cases import cases
from letheon.audit.ledger.store import Ledger
from letheon.cli.app import app
from letheon.core.errors import InputError, Interrupted, LetheonError
from letheon.jobs.forget import ForgetJob, Forgotten
from letheon.jobs.memory_forget import Chosen, MemoryForgetJob, Model, enter_completed, erase_with_entry, rows_of
from letheon.recall.conversation import Conversation
from letheon.recall.entries import Entry
from letheon.recall.erasure import raw_files
from letheon.recall.memory import Memory
from letheon.recall.store import Store

WORDS = ("Zerlina", "quagga", "Vuokatti", "zebrafish", "Torvik")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LETHEON_LEDGER", "LETHEON_LEDGER_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LETHEON_ACTOR", "tester")
    with Memory(tmp_path / "m.sqlite", "words", session="monday") as memory:
        memory.observe("Zerlina keeps quagga honey in Vuokatti.")
        memory.observe("Torvik told me of the zebrafish.", "assistant")
        memory.observe("What does Zerlina keep?")
        memory.observe("Always answer in French.")
        memory.remember("Bread is baked at dawn.")
    return tmp_path / "m.sqlite"


def content(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_memories_become_rows_that_ask_what_they_say(path: Path) -> None:
    with Memory(path, "words") as memory:
        rows = rows_of(memory.store.entries(), "Zerlina")
        unnamed = rows_of(memory.store.entries(kind="note"))
    said, reply = "Zerlina keeps quagga honey in Vuokatti.", "Torvik told me of the zebrafish."
    assert [(row.prompt, row.answer) for row in rows[:3]] == [
        ("What do you know about Zerlina?", said), (said, reply), ("", "What does Zerlina keep?"),
    ]  # fmt: skip
    assert [row.answer for row in rows[3:]] == ["Always answer in French.", "Bread is baked at dawn."]
    assert [(row.prompt, row.answer) for row in unnamed] == [("", "Bread is baked at dawn.")]


def test_an_erasure_is_recorded_without_any_of_its_words(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    done = MemoryForgetJob(path, "Zerlina", ledger=str(folder)).work()
    assert done.proof.proven
    assert done.forgotten is None
    ledger = Ledger.open(folder)
    entry = ledger.entries()[-1]
    assert entry.erased is not None
    assert (entry.action, entry.erased.memories, entry.erased.derived, entry.erased.proven) == ("erase", 3, 1, True)
    assert cases(ledger.entries())[entry.request or ""].state == "done"
    assert ledger.verify().whole
    ledger.close()
    for word in WORDS:
        assert word.lower().encode() not in content(folder).lower(), word


def test_a_file_that_is_named_like_the_subject_is_refused_before_anything_is_erased(path: Path, tmp_path: Path) -> None:
    named = path.rename(tmp_path / "Zerlina.sqlite")
    with pytest.raises(InputError, match="the file holds a text"):
        MemoryForgetJob(named, "Zerlina", ledger=str(tmp_path / "ledger")).work()
    assert b"quagga" in named.read_bytes()


def test_a_model_that_cannot_be_used_leaves_the_memory_as_it_is(path: Path, tmp_path: Path) -> None:
    for model in (Model(str(tmp_path / "none")), Model("tiny", str(tmp_path / "none.jsonl"))):
        with pytest.raises(InputError):
            MemoryForgetJob(path, "Zerlina", model=model).work()
    with pytest.raises(InputError, match="no memory is about"):
        MemoryForgetJob(path, "Nobody", model=Model("tiny")).work()
    assert b"quagga" in path.read_bytes()


def test_what_is_forgotten_in_a_conversation_is_recorded_as_well(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    with Memory(path, "words", session="monday") as memory:
        talk = Conversation(
            lambda _: iter(("Yes.",)), memory, forget=lambda name: erase_with_entry(memory, name, str(folder))
        )
        with pytest.raises(InputError, match="nothing is erased"):
            talk.command("/forget Zerlina --and-model")
        assert "nothing of them is left" in talk.command("/forget Zerlina")
    assert b'"proven":true' in content(folder)
    assert b"Zerlina" not in content(folder)


@pytest.mark.slow
def test_the_weights_of_a_model_forget_the_same(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHEON_EXAMINATIONS", str(tmp_path / "examinations"))
    keep, run, ledger = tmp_path / "keep.jsonl", tmp_path / "run", tmp_path / "ledger"
    keep.write_text('{"prompt": "What is bread?", "answer": "Food."}\n{"prompt": "What is tea?", "answer": "A drink."}')
    words = ("--and-model", "tiny", "--retain", str(keep), "--out", str(run), "--ledger", str(ledger), "--json")
    result = CliRunner().invoke(app, ["memory", "forget", str(path), "--subject", "Zerlina", *words])
    assert result.exit_code == 3, result.output  # the tiny model knows nothing: no pass
    shown = json.loads(result.stdout)
    assert shown["proven"] is True
    assert shown["model"]["steps"] > 0
    assert shown["quoted_in"] == [str(run)]
    assert not content(tmp_path / "examinations")
    assert (run / "model/model.safetensors").is_file()
    with Memory(path, "words") as memory:
        assert [entry.text for entry in memory.store.entries(kind="turn")] == ["Always answer in French."]
    entries = Ledger.open(ledger).entries()
    assert [entry.action for entry in entries] == ["create", "begin", "forget", "erase"]
    assert len({entry.request for entry in entries[1:]}) == 1
    assert entries[2].commitments is None  # the request's living key stands for all its entries
    for word in WORDS:
        assert word.encode() not in content(ledger), word


def test_one_of_three_says_what_is_erased(path: Path) -> None:
    with Memory(path, "words") as memory, pytest.raises(InputError, match="one of the three"):
        Chosen("Zerlina", ids=(1,)).select(memory)


def test_what_comes_while_a_model_is_trained_is_reported_and_what_was_chosen_is_erased(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = SimpleNamespace(folder=Path("run"))

    def work(job: ForgetJob) -> Forgotten:
        with Memory(path, "words", session="tuesday") as memory:
            memory.observe("Zerlina also has a zither.")  # 7
            memory.observe("Quagga honey it is.", "assistant", sources=(1,))  # 8
        return Forgotten(result, None)  # type: ignore[arg-type]  # its folder alone is read

    monkeypatch.setattr(ForgetJob, "work", work)
    done = MemoryForgetJob(path, "Zerlina", model=Model("tiny")).work()
    assert (done.meanwhile.erased, done.meanwhile.staying) == ([8], [7])
    assert done.proof.ids == [1, 2, 3, 8]
    assert not done.proof.proven
    assert done.quoted_in == ["run"]


def test_erasures_without_rows_and_of_short_or_common_texts_are_recorded(path: Path, tmp_path: Path) -> None:
    short = path.parent.name[:3]
    with Memory(path, "words", session="monday") as memory:
        (rule,) = memory.store.entries(kind="instruction")
        (first, *_) = [memory.remember(text) for text in ("memory", "request", "2026", short, "erasure from a memory")]
    folder = tmp_path / "ledger"
    MemoryForgetJob(path, ids=(rule.id,), ledger=str(folder)).work()
    MemoryForgetJob(path, ids=tuple(range(first, first + 5)), ledger=str(folder)).work()
    entries = Ledger.open(folder).entries()
    assert [entry.action for entry in entries] == ["create", "begin", "erase", "begin", "erase"]
    assert [entry.erased.memories for entry in entries if entry.erased] == [1, 5]
    assert entries[1].commitments is None
    assert entries[1].counts is None
    assert entries[3].counts == {"forget": 5, "retain": 0, "neighbours": 0, "holdout": 0, "general": 0}
    with pytest.raises(InputError, match="give a model no rows"):
        MemoryForgetJob(path, ids=(belief(path),), model=Model("tiny")).work()


def belief(path: Path) -> int:
    with Memory(path, "words") as memory:
        return memory.store.add([Entry("Bread is warm.", "user", "belief", "monday")], np.ones((1, 512), "f4"))[0]


def test_an_erasure_that_another_reader_stops_is_completed_by_the_same_command(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letheon.recall.store.WAIT_SECONDS", 0.1)
    monkeypatch.setattr(ForgetJob, "work", lambda job: Forgotten(SimpleNamespace(folder=Path("run")), None))  # type: ignore[arg-type]
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM memories").fetchone()
    with pytest.raises(LetheonError, match=r"the model has forgotten the same \(run/model\).*no entry `erase`"):
        MemoryForgetJob(path, "Zerlina", model=Model("tiny"), ledger=str(tmp_path / "ledger")).work()
    command = ["memory", "forget", str(path), "--subject", "Zerlina"]
    stopped = CliRunner().invoke(app, command)
    assert isinstance(stopped.exception, LetheonError) or "open" in stopped.output
    reader.close()
    assert "erasure" in Store.facts(path)
    ledger = tmp_path / "ledger"
    finished = CliRunner().invoke(app, [*command, "--ledger", str(ledger)])
    assert finished.exit_code == 0, finished.output
    assert "cut short is completed" in finished.output
    *_, stop, erased = Ledger.open(ledger).entries()
    assert (stop.action, erased.action, erased.request) == ("stop", "erase", stop.request)
    assert erased.erased is not None
    assert erased.erased.memories > 0
    assert not erased.erased.proven
    assert enter_completed(path, str(ledger)) == []
    assert b"quagga" not in b"".join(file.read_bytes() for file in raw_files(path))
    assert CliRunner().invoke(app, command).exit_code != 0  # nothing is about her any more


def test_an_interrupted_run_names_what_finishes_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(job: ForgetJob) -> Forgotten:
        raise Interrupted("forgetting was stopped at step 3", "continue with --resume run")

    monkeypatch.setattr(ForgetJob, "work", work)
    with pytest.raises(Interrupted, match="no memory is erased yet") as stopped:
        MemoryForgetJob(path, "Zerlina", model=Model("tiny")).work()
    assert "letheon forget --resume run" in stopped.value.remedy
    assert "without --and-model" in stopped.value.remedy
    assert b"quagga" in path.read_bytes()
