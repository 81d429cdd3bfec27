"""An erasure takes what was derived, survives kills and other writers, and its proof sees what it must see."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from letheon.core.errors import LetheonError
from letheon.recall.conversation import Conversation
from letheon.recall.embedders import HashedWords
from letheon.recall.entries import Entry
from letheon.recall.erasure import erase, owed, raw_files, settle
from letheon.recall.memory import Memory
from letheon.recall.store import SourceErased, Store

WORDS = HashedWords()


def add(store: Store, *entries: Entry) -> list[int]:
    return store.add(entries, WORDS.embed([entry.text for entry in entries]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "m.sqlite", WORDS.name, WORDS.width)


def raw(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in raw_files(path))


def test_a_reply_that_repeats_a_fact_without_the_name_goes_with_it(tmp_path: Path) -> None:
    def repeats(messages: list[dict[str, str]]) -> Iterator[str]:
        yield "The code is 7391." if "7391" in str(messages) else "I do not know."

    with Memory(tmp_path / "m.sqlite", "words", session="monday") as memory:
        talk = Conversation(repeats, memory)
        list(talk.say("Ilse Quarrant's locker code is 7391."))
        list(Conversation(repeats, memory.in_session("tuesday")).say("Which code do I need for the locker?"))
        assert raw(memory.store.path).count(b"7391") >= 3
        proof = memory.forget(subject="Ilse Quarrant")
        assert proof.proven
        assert len(proof.derived) == 2
        assert [entry.text for entry in memory.store.entries()] == ["Which code do I need for the locker?"]
    assert b"7391" not in raw(tmp_path / "m.sqlite")


def test_memories_that_may_say_the_same_in_other_words_are_listed_and_stay(store: Store) -> None:
    add(
        store,
        Entry("Ilse keeps brown bees in the garden."),
        Entry("She keeps brown bees in the garden."),
        Entry("Tea?"),
    )
    proof = erase(store, [1], "Ilse")
    assert proof.similar == [2]
    assert not erase(store, [2, 3]).similar


def test_a_vector_of_a_broken_size_stops_no_erasure(store: Store) -> None:
    add(store, Entry("Ilse's code is 7391."), Entry("Ilse's lock is green."), Entry("Filler."))
    store.connection.execute("UPDATE memories SET vector = x'010203' WHERE id = 1")
    assert erase(store, [1, 2]).similar == []


def test_a_reply_whose_source_is_erased_while_it_is_written_is_not_stored(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m.sqlite", "words")
    memory.remember("Ilse's code is 7391.", subject="Ilse")

    def interrupted(messages: list[dict[str, str]]) -> Iterator[str]:
        yield "It is "
        with Memory(tmp_path / "m.sqlite", "words") as other:
            other.forget(subject="Ilse")
        yield "7391."

    assert "".join(Conversation(interrupted, memory).say("What is the code?")) == "It is 7391."
    assert [entry.text for entry in memory.store.entries()] == ["What is the code?"]
    assert b"7391" not in raw(tmp_path / "m.sqlite")
    with pytest.raises(SourceErased):
        add(memory.store, Entry("A belief.", kind="belief", sources=(1,)))
    assert len(memory.store) == 1


def test_a_name_within_a_remaining_word_hides_no_remainder_and_is_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, Entry("The Annual fair is near."), Entry("Ann keeps bees.", subject="Ann"), Entry("Filler."))
    assert erase(store, [2]).proven  # "Ann" is in "Annual", and the index holds "annual"
    add(store, Entry("Ann keeps bees.", subject="Ann"))
    store.connection.execute("PRAGMA secure_delete = OFF")
    log_only = lambda store, finish=True: store._empty_log()  # noqa: E731
    monkeypatch.setattr(Store, "rebuild", log_only)
    assert "Ann" in erase(store, [4]).remains  # its bytes are in a free cell


def test_an_index_that_still_lists_a_stem_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Porter's stem of "quarrying" is in no text; the word index alone holds it."""
    add(store, Entry("He is quarrying."), Entry("Filler."))
    rebuild = Store.rebuild

    def forgetful(store: Store, finish: bool = True) -> bool:
        done = rebuild(store, finish)
        store.connection.execute("INSERT INTO words (rowid, text) VALUES (1, 'He is quarrying.')")
        store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return done

    monkeypatch.setattr(Store, "rebuild", forgetful)
    assert "index: quarri" in erase(store, [1]).remains


def test_details_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "m.sqlite", "four", 4)  # many rows per page, so that a freed cell stays as it was
    page = Entry("A page.", details={"source": {"files": ["käfer-secret.pdf", 73915]}})
    rows = [*[Entry(f"Filler {i}.") for i in range(9)], page, Entry("Filler.")]
    store.add(rows, np.ones((11, 4), dtype=np.float32))
    store.connection.execute("PRAGMA secure_delete = OFF")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "rebuild", lambda store, finish=True: store._empty_log())
        assert {"73915", "secret"} <= set(erase(store, [10]).remains)
    store.add([page], np.ones((1, 4), dtype=np.float32))
    assert erase(store, [12]).proven


def test_inflected_names_are_erased_and_other_names_are_not(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.sqlite", "words") as memory:
        texts = ["Ilse's bees.", "ILSES Garten.", "The Quarrants' house.", "Ilsebill is another.", "Anne sings."]
        memory.import_entries([Entry(text, kind="note") for text in texts])
        assert memory.forget(subject="Ilse").ids == [1, 2]
        assert memory.forget(subject="Quarrant").ids == [3]
        assert [entry.text for entry in memory.store.entries()] == texts[3:]


def test_many_shapes_of_memories_raise_no_false_alarm(store: Store) -> None:
    """The reference is laid out as the file is: long texts over several pages, shared words, subjects, and details."""
    draw = np.random.default_rng(0)
    words = np.array(["".join(draw.choice(list("abcde"), draw.integers(2, 8))).title() for _ in range(150)])
    entries = [
        Entry(
            " ".join(draw.choice(words, draw.choice([2, 20, 600], p=[0.5, 0.45, 0.05]))),
            str(draw.choice(["user", "Caroline"])), subject=str(draw.choice(words[:9])),
            details={"source": str(draw.choice(words))},
        )
        for _ in range(120)
    ]  # fmt: skip
    for start in range(0, len(entries), 7):
        add(store, *entries[start : start + 7])
    for part in draw.permutation(np.arange(1, 121))[:40].reshape(4, 10).tolist():
        proof = erase(store, part)
        assert proof.proven, proof.remains
        assert proof.stems > 0


KILLED = """
import os, signal, sys
from pathlib import Path
from letheon.recall.erasure import erase
from letheon.recall.store import Store
def dies(store, finish=True):
    os.kill(os.getpid(), signal.SIGKILL)
store = Store(Path(sys.argv[1]), "words", 512)
Store.rebuild = dies
erase(store, [1])
"""


def test_an_erasure_that_is_killed_half_way_is_completed_when_the_file_is_opened(store: Store) -> None:
    add(store, Entry("Ilse Quarrant's code is 7391."), Entry("Filler."))
    store.close()
    assert subprocess.run([sys.executable, "-c", KILLED, str(store.path)], check=False).returncode == -9
    assert b"Quarrant" in raw(store.path)  # the log still holds the old page
    again = Store(store.path, WORDS.name, WORDS.width)
    assert b"Quarrant" not in raw(store.path)
    assert [entry.text for entry in again.entries()] == ["Filler."]
    assert "erasure" not in again.about()


def test_an_erasure_beside_a_writer_loses_nothing_and_raises_no_alarm(store: Store) -> None:
    add(store, Entry("Ilse Quarrant's code is 7391."), *[Entry(f"Filler {i}.") for i in range(50)])
    stop, written = threading.Event(), []

    def write() -> None:
        other = Store(store.path, WORDS.name, WORDS.width)
        while not stop.is_set():
            written.extend(add(other, Entry(f"Quarrant-free turn {len(written)}.")))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while len(written) < 5:
            stop.wait(0.001)
        proof = erase(store, [1])
    finally:
        stop.set()
        thread.join()
    assert proof.remains == []
    assert len(store) == 50 + len(written)


def test_a_writer_waits_for_an_erasure_and_completes_one_that_was_killed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, Entry("Filler."))
    store.connection.execute("INSERT INTO about VALUES ('erasure', 'unfinished')")
    other, written = Store.__new__(Store), threading.Event()
    other.path, other.embedder, other.width = store.path, store.embedder, store.width
    other.connection = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)

    def write() -> None:
        add(other, Entry("A turn."))
        written.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not written.wait(0.2)
    store.finish_erasure("unfinished")
    assert written.wait(5)
    thread.join()
    monkeypatch.setattr("letheon.recall.store.WAIT_SECONDS", 0.0)
    store.connection.execute("INSERT INTO about VALUES ('erasure', 'unfinished')")
    add(store, Entry("Another turn."))
    assert "erasure" not in store.about()
    assert len(store) == 3


def test_the_end_of_an_erasure_does_not_end_another_one(store: Store) -> None:
    store.connection.execute("INSERT INTO about VALUES ('erasure', 'of another')")
    store.finish_erasure("its own")
    assert store.about()["erasure"] == "of another"


def test_an_erasure_that_another_completes_is_noted_with_its_case(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, Entry("Ilse is here."), Entry("A reply.", sources=(1,)), Entry("Filler."))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "rebuild", lambda self, finish=True: False)
        with pytest.raises(LetheonError, match="open in another process"):
            erase(store, [1], case="c0ffee")
    assert owed(store) == {}
    assert store.rebuild()
    assert owed(store) == {"c0ffee": (2, 1)}
    settle(store, "c0ffee")
    assert owed(store) == {}
    proof = erase(store, [3], case="ca5e")
    assert proof.proven
    assert owed(store) == {}


def test_what_a_stranger_writes_between_rebuilding_and_reading_is_no_remainder(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is then not as the reference builds it: the file is rebuilt again, and read again."""
    add(store, Entry("Ilse Quarrant's code is 7391."), Entry("Filler."))
    stranger, empty, met = Store(store.path, WORDS.name, WORDS.width), Store._empty_log, []

    def meets(self: Store) -> bool:
        if not met:
            met.append(True)
            with stranger.writing(during_erasure=True) as connection:
                values = "(created, session, role, kind, text, vector, details)"
                text = "Quarrant-free turn."
                connection.execute(f"INSERT INTO memories {values} VALUES (0, '', '', '', ?, '', '{{}}')", (text,))
                number = connection.execute("SELECT max(id) FROM memories").fetchone()[0]
                connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, text))
        return empty(self)

    monkeypatch.setattr(Store, "_empty_log", meets)
    assert erase(store, [1]).remains == []
    assert met


def test_a_vacuum_that_meets_another_writer_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert store.rebuild() is False
    other.execute("ROLLBACK")
    assert store.rebuild() is True
    assert os.path.getsize(f"{store.path}-wal") == 0


def test_a_subject_is_erased_from_roles_details_and_sessions_and_looked_for_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Memory(tmp_path / "m.sqlite", "words") as memory:
        rows = [
            Entry("My locker code is 7391.", "Ilse"), Entry("Hello there.", session="chat with Ilse"),
            Entry("I have a cold.", kind="note", details={"people": [{"name": "ILSE"}]}),
            Entry("She sings.", kind="note", details={"Ilse": 1}), Entry("Ilse came."), Entry("Ilsebill is another."),
        ]  # fmt: skip
        memory.import_entries(rows)
        proof = memory.forget(subject="Ilse")
        assert proof.proven
        assert proof.ids == [1, 2, 3, 4, 5]
        assert raw(memory.store.path).count(b"Ilse") == 1  # in the other name
        memory.import_entries(rows[:1] * 2)
        monkeypatch.setattr("letheon.recall.erasure.with_derived", lambda store, ids: list(ids))
        assert erase(memory.store, [7], "Ilse").remains == ["memory 8 names Ilse"]


def test_every_later_reply_of_an_imported_history_goes_with_the_fact(tmp_path: Path) -> None:
    said = [("user", "Ilse's code is 7391."), ("assistant", "Noted."), ("user", "And?"), ("assistant", "It is 7391.")]
    with Memory(tmp_path / "m.sqlite", "words") as memory:
        memory.import_entries([Entry(text, role, session="s") for role, text in said])
        for role, text in said:
            memory.observe(text, role)
        assert memory.forget(subject="Ilse").proven
        assert [entry.text for entry in memory.store.entries()] == ["And?", "And?"]
        assert b"7391" not in raw(memory.store.path)
