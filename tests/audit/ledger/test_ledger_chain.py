"""Nothing in a chain can be changed, removed, swapped or inserted unseen; a head kept elsewhere shows a cut end."""

from __future__ import annotations

import json
from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from letheon.audit.ledger.canonical import canonical
from letheon.audit.ledger.chain import GENESIS, Head, Line, Verification, check, head_message, link
from letheon.audit.ledger.exchange import export_line, lines_of

SIZE = 7
# other processes may hold the cores: how long an example takes says nothing
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def chain() -> tuple[Line, ...]:
    """A whole chain, as honest writing makes it."""
    lines: list[Line] = []
    for sequence in range(1, SIZE + 1):
        entry = canonical({"sequence": sequence, "time": f"2026-01-{sequence:02d}", "action": "begin", "actor": "x"})
        lines.append(Line(entry, link(lines[-1].hash if lines else GENESIS, entry)))
    return tuple(lines)


def exported(lines: tuple[Line, ...] | list[Line]) -> bytes:
    return b"".join(map(export_line, lines))


def check_file(content: bytes, head: Head | str | None = None) -> Verification:
    """What `letheon ledger verify FILE` finds."""
    return check(lines_of(content), head)


HEAD = Head(SIZE, chain()[-1].hash)


def test_a_whole_chain_is_whole() -> None:
    found = check_file(exported(chain()), HEAD)
    assert found.whole
    assert (found.size, found.head) == (SIZE, HEAD.hash)
    assert any("UNSIGNED" in note for note in found.notes)


def test_the_first_link_by_hand() -> None:
    """Two independent lines of hashlib."""
    import hashlib

    first = b'{"sequence":1}'
    start = hashlib.sha256(b"letheon.ledger/1\n").digest()
    assert link(GENESIS, first) == hashlib.sha256(b"letheon.ledger/1\n" + start + first).hexdigest()


@settings(patient, max_examples=300)
@given(st.data())
def test_any_changed_byte_is_found_at_its_entry(data: st.DataObject) -> None:
    content = bytearray(exported(chain()))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    found = check_file(bytes(content))
    assert not found.whole
    touched = exported(chain())[:place].count(b"\n") + 1  # the line that the byte is in
    assert found.faults[0].sequence == touched


@patient
@given(st.integers(0, SIZE - 2))
def test_a_removed_entry_is_found(place: int) -> None:
    lines = list(chain())
    del lines[place]
    found = check_file(exported(lines))
    assert [fault.sequence for fault in found.faults] == [place + 1]
    assert "missing" in found.faults[0].problem


@patient
@given(st.lists(st.integers(0, SIZE - 1), min_size=2, max_size=2, unique=True))
def test_swapped_entries_are_found(places: list[int]) -> None:
    lines = list(chain())
    first, second = sorted(places)
    lines[first], lines[second] = lines[second], lines[first]
    assert check_file(exported(lines)).faults[0].sequence == first + 1


@patient
@given(st.integers(0, SIZE), st.integers(0, SIZE - 1))
def test_a_copied_entry_is_found(place: int, source: int) -> None:
    lines = list(chain())
    lines.insert(place, chain()[source])
    assert not check_file(exported(lines)).whole or place == source


@patient
@given(st.integers(1, SIZE - 1))
def test_an_inserted_entry_is_found_even_with_a_fitting_hash(place: int) -> None:
    lines = list(chain())
    forged = canonical({"sequence": place + 1, "time": "2026-01-01", "action": "close", "actor": "x"})
    lines.insert(place, Line(forged, link(lines[place - 1].hash, forged)))
    assert check_file(exported(lines)).faults[0].sequence == place + 2, "the next true entry no longer fits"


@patient
@given(st.integers(1, SIZE - 1))
def test_a_cut_end_is_found_with_a_head_only(kept: int) -> None:
    content = exported(chain()[:kept])
    assert check_file(content).whole, "a chain alone cannot show it"
    for head in (HEAD, HEAD.hash):
        found = check_file(content, head)
        assert found.faults[0].sequence == kept + 1
        assert "cut off" in found.faults[0].problem


def test_a_chain_written_anew_is_found_with_a_head_only() -> None:
    lines: list[Line] = []
    for line in chain():
        entry = canonical({**json.loads(line.entry), "actor": "somebody else"})
        lines.append(Line(entry, link(lines[-1].hash if lines else GENESIS, entry)))
    assert check_file(exported(lines)).whole
    assert "anew" in check_file(exported(lines), HEAD).faults[0].problem
    assert not check_file(exported(lines), HEAD.hash).whole


def test_a_chain_that_has_grown_keeps_its_earlier_heads() -> None:
    found = check_file(exported(chain()), Head(3, chain()[2].hash))
    assert found.whole
    assert any("4 entries were written since" in note for note in found.notes)


def test_an_empty_file_and_a_torn_line_are_no_chain() -> None:
    assert not check_file(b"").whole
    torn = check_file(exported(chain())[:-5])
    assert torn.faults[0].sequence == SIZE


def test_a_clock_that_ran_backwards_is_noted() -> None:
    first = canonical({"sequence": 1, "time": "2026-01-02"})
    second = canonical({"sequence": 2, "time": "2026-01-01"})
    lines = [Line(first, link(GENESIS, first))]
    lines.append(Line(second, link(lines[0].hash, second)))
    found = check(lines)
    assert found.whole
    assert any("entry 2: its time" in note for note in found.notes)


def test_a_head_says_its_size() -> None:
    assert head_message(3, "ab") != head_message(4, "ab")


def test_an_entry_has_one_form_only() -> None:
    """A second way to write the same entry would be another hash for the same words."""
    spaced = b'{"sequence": 1}'
    assert "not canonical" in check([Line(spaced, link(GENESIS, spaced))]).faults[0].problem


def test_a_number_that_does_not_fit_its_place_is_found_even_with_a_fitting_hash() -> None:
    first = canonical({"sequence": 1, "time": "2026-01-01"})
    second = canonical({"sequence": 5, "time": "2026-01-02"})
    lines = [Line(first, link(GENESIS, first), place=1)]
    lines.append(Line(second, link(lines[0].hash, second), place=2))
    assert "says that it is entry 5" in check(lines).faults[0].problem


def test_a_head_whose_size_and_hash_do_not_belong_together_is_refused() -> None:
    assert not check(chain(), Head(3, chain()[4].hash)).whole


def test_a_line_of_an_export_has_one_form_only() -> None:
    first, *rest = exported(chain()).splitlines(keepends=True)
    for changed in (first.replace(b'{"entry":', b'{"entry": '), first.replace(b'{"entry":', b'{"added":1,"entry":')):
        assert check_file(b"".join([changed, *rest])).faults[0].sequence == 1
