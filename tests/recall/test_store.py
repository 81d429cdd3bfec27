"""A memory file survives kills, refuses what is none, finds what it holds, and erases it down to the bytes."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from letheon.core.errors import InputError, LetheonError
from letheon.recall.embedders import Cached, HashedWords
from letheon.recall.entries import Entry
from letheon.recall.erasure import erase, raw_files
from letheon.recall.memory import Memory, reindex
from letheon.recall.ranking import reciprocal_ranks
from letheon.recall.store import Store
from letheon.recall.table import ranked

WORDS = HashedWords()


def filled(path: Path, *texts: str) -> Store:
    store = Store(path, WORDS.name, WORDS.width)
    store.add([Entry(text) for text in texts], WORDS.embed(texts))
    return store


def test_what_is_stored_is_found_by_words_and_by_meaning(tmp_path: Path) -> None:
    store = filled(tmp_path / "m.sqlite", "Ilse keeps bees in Brno.", "The weather is fine.", "Brno has trams.")
    assert store.matching("bees", 5)[0][0] == 1
    assert [i for i, _ in store.matching("Brno", 5)] == [3, 1]  # the shorter text first
    (best, score), *_ = store.nearest(WORDS.embed(["ilse keeps bees in brno"])[0], 2)
    assert (best, round(score, 5)) == (1, 1.0)
    assert store.matching("?!", 5) == []
    assert store.matching('" OR text:*', 5) == []  # the query's syntax is no syntax of the index


def test_nearest_is_the_exact_order_of_cosines(tmp_path: Path) -> None:
    texts = [f"row {i} of {i % 7} and {i % 11}" for i in range(200)]
    store = filled(tmp_path / "m.sqlite", *texts)
    query = WORDS.embed(["row of 3 and 5"])[0]
    cosines = WORDS.embed(texts) @ query
    nearest = store.nearest(query, 10)
    assert [score for _, score in nearest] == pytest.approx(sorted(cosines, reverse=True)[:10], abs=1e-6)
    assert [cosines[i - 1] for i, _ in nearest] == pytest.approx([score for _, score in nearest], abs=1e-6)


def test_rows_without_a_number_come_last_in_any_search() -> None:
    scores, places = np.array([np.nan, 0.5, np.nan, 0.7, 0.5]), np.arange(5)
    for k in range(7):
        assert ranked(scores, places, k).tolist() == [3, 1, 4, 0, 2][:k]


@pytest.mark.parametrize("vector", [b"abc", np.float32(1).tobytes(), "text"])
def test_a_damaged_vector_is_named_and_mended_by_reindexing(tmp_path: Path, vector: bytes | str) -> None:
    store = filled(tmp_path / "m.sqlite", "Bees hum.", "Ships sail.")
    store.connection.execute("UPDATE memories SET vector = ? WHERE id = 2", (vector,))
    with pytest.raises(InputError, match="memory 2 has no vector of 512 values"):
        store.vectors()
    store.close()
    reindex(tmp_path / "m.sqlite", WORDS)
    again = Store(tmp_path / "m.sqlite", WORDS.name, WORDS.width)
    assert again.nearest(WORDS.embed(["ships"])[0], 1)[0][0] == 2


def test_main_memory_holds_no_vector_of_the_erased_and_no_batch_for_one_row(tmp_path: Path) -> None:
    store = filled(tmp_path / "m.sqlite", "Bees hum.", "Ships sail.")
    _, held = store.vectors()
    erase(store, [1])
    assert not np.shares_memory(held, store._table.vectors)
    assert store._table.count == 0
    assert store.vectors()[0].tolist() == [2]
    cached = Cached(WORDS, 1)
    cached.embed(["a", "b", "c"])
    assert [vector.base for vector in cached.known.values()] == [None]


def test_a_second_reader_sees_what_was_written_since(tmp_path: Path) -> None:
    store = filled(tmp_path / "m.sqlite", "one")
    other = Store(tmp_path / "m.sqlite", WORDS.name, WORDS.width)
    assert len(other.vectors()[0]) == 1
    store.add([Entry("two")], WORDS.embed(["two"]))
    assert len(other.vectors()[0]) == 2


def test_vectors_that_were_added_and_erased_are_those_of_a_fresh_reading(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    with Memory(path, "words") as memory, Memory(path, "words") as other:
        for number in range(40):
            (memory, other)[number % 2].remember(f"Note {number} is about ship {number}.")
            if number % 7 == 3:
                memory.forget(ids=[number])
            before, held = memory.store.vectors()
            copied = held.copy()
            with Memory(path, "words") as fresh:
                ids, vectors = fresh.store.vectors()
            assert before.tolist() == ids.tolist()
            assert np.array_equal(held, vectors)
            memory.remember("One more.")
            memory.store.vectors()
            assert np.array_equal(held, copied)  # what was given out stays


def test_reciprocal_ranks_by_hand() -> None:
    assert reciprocal_ranks([[7, 8], [8, 9]], constant=1) == [(8, 1 / 3 + 1 / 2), (7, 1 / 2), (9, 1 / 3)]


def test_erasure_leaves_no_byte_of_text_vector_or_index(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    texts = [f"Filler number {i} about gardens and rivers." for i in range(300)]
    store = filled(path, *texts, "Ilse Quarrant's locker code is 7391-zebra.")
    store.add([Entry("Somebody has a zebra code.", kind="belief", sources=(301,))], WORDS.embed(["zebra code"]))
    vector = WORDS.embed(["Ilse Quarrant's locker code is 7391-zebra."])[0].tobytes()
    raw = b"".join(file.read_bytes() for file in raw_files(path))
    assert b"Quarrant" in raw
    assert vector in raw
    proof = erase(store, [301])
    assert proof.proven
    assert (proof.ids, proof.derived) == ([301, 302], [302])
    raw = b"".join(file.read_bytes() for file in raw_files(path))
    for needle in (b"Quarrant", b"quarrant", b"7391", b"zebra", vector):
        assert needle not in raw
    assert len(store) == 300
    assert store.matching("zebra", 5) == []


def test_without_overwriting_the_proof_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search of the raw file is no formality: a plain DELETE leaves the bytes, and it says so."""
    store = filled(tmp_path / "m.sqlite", *[f"Filler {i}." for i in range(100)], "Quarrant hides 7391 zebras.")
    store.connection.execute("PRAGMA secure_delete = OFF")
    store.connection.execute("INSERT INTO words (words, rank) VALUES ('secure-delete', 0)")
    monkeypatch.setattr(Store, "rebuild", lambda store, finish=True: store._empty_log())
    proof = erase(store, [101])
    assert not proof.proven
    assert any("Quarrant" in remains for remains in proof.remains)


def test_what_others_share_stays_theirs(tmp_path: Path) -> None:
    store = filled(
        tmp_path / "m.sqlite", "Ilse lives in Pellmouth.", "Pellmouth has a harbour.", "Ilse lives in Pellmouth."
    )
    assert erase(store, [1]).proven
    assert [entry.text for entry in store.entries()] == ["Pellmouth has a harbour.", "Ilse lives in Pellmouth."]


def test_a_file_that_is_open_elsewhere_is_not_called_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letheon.recall.store.WAIT_SECONDS", 0.1)
    store = filled(tmp_path / "m.sqlite", "Ilse Quarrant keeps bees.")
    reader = sqlite3.connect(tmp_path / "m.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM memories").fetchone()
    with pytest.raises(LetheonError, match="open in another process"):
        erase(store, [1])
    add = partial(store.add, [Entry("A turn.")], WORDS.embed(["A turn."]))
    add()  # waits, and finds that it cannot complete the erasure
    monkeypatch.setattr("letheon.recall.store.WAIT_SECONDS", 60)
    add()  # does not wait again
    reader.close()
    assert store.rebuild()
    add()
    assert not store._left_unfinished


@pytest.mark.parametrize("content", [b"not a database at all" * 50, b"SQLite format 3\x00" + b"\xff" * 2000])
def test_what_is_no_memory_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="memory file"):
        Store(path, "words", 8)
    assert path.read_bytes() == content


def test_other_embedders_newer_formats_and_other_databases_are_refused(tmp_path: Path) -> None:
    filled(tmp_path / "m.sqlite", "one").close()
    with pytest.raises(InputError, match="holds vectors of 'words'"):
        Store(tmp_path / "m.sqlite", "minilm", 384)
    with sqlite3.connect(tmp_path / "m.sqlite") as connection:
        connection.execute("UPDATE about SET value = '99' WHERE name = 'format'")
    with pytest.raises(InputError, match="format 99"):
        Store(tmp_path / "m.sqlite", WORDS.name, WORDS.width)
    with sqlite3.connect(tmp_path / "other.sqlite") as connection:
        connection.execute("CREATE TABLE bills (sum REAL)")
    with pytest.raises(InputError, match="something else"):
        Store(tmp_path / "other.sqlite", WORDS.name, WORDS.width)


def test_empty_and_endless_texts_are_refused_and_nothing_of_the_batch_is_stored(tmp_path: Path) -> None:
    store = filled(tmp_path / "m.sqlite", "one")
    for text in (" ", "x" * 1_000_001):
        with pytest.raises(InputError, match="characters"):
            store.add([Entry("fine"), Entry(text)], WORDS.embed(["fine", text]))
    assert len(store) == 1


def test_a_second_writer_waits_and_then_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letheon.recall.store.WAIT_SECONDS", 0.1)
    store, other = filled(tmp_path / "m.sqlite", "one"), Store(tmp_path / "m.sqlite", WORDS.name, WORDS.width)
    with store.writing(), pytest.raises(LetheonError, match="locked"):
        other.add([Entry("two")], WORDS.embed(["two"]))


WRITER = """
import sys
from functools import partial
from pathlib import Path
from letheon.recall.embedders import HashedWords
from letheon.recall.entries import Entry
from letheon.recall.store import Store
words = HashedWords()
store = Store(Path(sys.argv[1]), words.name, words.width)
for i in range(100000):
    texts = [f"batch {i} row {j}" for j in range(5)]
    store.add([Entry(t) for t in texts], words.embed(texts))
    print(i, flush=True)
"""


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_a_killed_writer_loses_nothing_that_it_confirmed(kills: int, tmp_path: Path) -> None:
    """`kill -9` at random moments: every batch that was confirmed is whole, and no batch is half there."""
    draw = random.Random(kills)
    for kill in range(kills):
        path = tmp_path / f"{kill}.sqlite"
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        confirmed = int(process.stdout.readline())
        timer = threading.Timer(draw.random() * 0.1, process.kill)
        timer.start()
        for line in process.stdout:
            confirmed = int(line)
        process.wait()
        store = Store(path, WORDS.name, WORDS.width)
        assert len(store) % 5 == 0
        assert len(store) >= 5 * (confirmed + 1)
        assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert len(store.matching("batch", 10**6)) == len(store)


def test_another_embedder_takes_over(tmp_path: Path) -> None:
    class Lengths:
        name, width = "lengths", 1

        def embed(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 1), dtype=np.float32)

    with Memory(tmp_path / "m.sqlite", "words") as memory:
        memory.remember("Ilse keeps bees.")
    assert reindex(tmp_path / "m.sqlite", Lengths()) == 1  # type: ignore[arg-type]
    with Memory(tmp_path / "m.sqlite", Lengths()) as memory:  # type: ignore[arg-type]
        assert memory.search("bees")[0][0].text == "Ilse keeps bees."


def test_a_memory_that_is_stored_while_the_file_is_reindexed_has_a_vector_of_its_own(tmp_path: Path) -> None:
    path, waiting = tmp_path / "m.sqlite", ["written meanwhile"]

    class Slow:
        name, width = "slow", 4

        def embed(self, texts: list[str]) -> np.ndarray:
            while waiting:
                other.remember(waiting.pop())
            return np.ones((len(texts), 4), dtype=np.float32) / 2

    other = Memory(path, "words")
    other.remember("first")
    assert reindex(path, Slow()) == 2  # type: ignore[arg-type]
    for act in (lambda: other.remember("second"), lambda: other.search("first"), lambda: other.context("first?")):
        with pytest.raises(InputError, match="holds vectors of 'slow'"):
            act()
    with Memory(path, Slow()) as memory:  # type: ignore[arg-type]
        assert memory.store.vectors()[1].shape == (2, 4)


def test_vectors_that_another_process_made_anew_under_the_same_name_are_read_again(tmp_path: Path) -> None:
    class Turned:
        name, width, sign = "turned", 1, 1.0

        def embed(self, texts: list[str]) -> np.ndarray:
            return np.full((len(texts), 1), self.sign, dtype=np.float32)

    memory = Memory(tmp_path / "m.sqlite", Turned())  # type: ignore[arg-type]
    memory.remember("Ilse keeps bees.")
    assert memory.store.vectors()[1].tolist() == [[1.0]]
    other = Turned()
    other.sign = -1.0
    assert reindex(tmp_path / "m.sqlite", other) == 1  # type: ignore[arg-type]
    assert memory.store.vectors()[1].tolist() == [[-1.0]]


def test_what_another_process_erases_during_a_search_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, other = Memory(tmp_path / "m.sqlite", "words"), Memory(tmp_path / "m.sqlite", "words")
    for text in ("Ilse keeps bees.", "Bees are nice."):
        memory.remember(text)
    entries = memory.store.entries

    def erased_first(*args: object, **options: object) -> list[Entry]:
        if len(other.store):
            other.forget(ids=[1])
        monkeypatch.undo()
        return entries(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(memory.store, "entries", erased_first)
    assert [entry.text for entry, _ in memory.search("bees")] == ["Bees are nice."]


def test_writing_is_quick_enough_to_be_done_at_every_turn(tmp_path: Path) -> None:
    store, start = filled(tmp_path / "m.sqlite", "one"), time.process_time()
    for i in range(50):
        store.add([Entry(f"turn {i}")], WORDS.embed([f"turn {i}"]))
    assert time.process_time() - start < 5
