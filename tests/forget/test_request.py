"""Requests refuse rows that are forgotten and kept, and survive a round trip through a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.forget.request import Request

ROW = Example("Where?", "Here.", id="a")


def test_a_request_needs_something_to_forget() -> None:
    with pytest.raises(InputError, match="no forget rows"):
        Request(forget=())


@pytest.mark.parametrize("kept", ["retain", "neighbours"])
def test_a_row_cannot_be_forgotten_and_kept(kept: str) -> None:
    with pytest.raises(InputError, match=f"{kept} row b is also forget row a"):
        Request(forget=(ROW,), **{kept: (Example("Where? ", " Here.", id="b"),)})


def test_a_request_gets_an_id_and_a_time() -> None:
    first, second = Request(forget=(ROW,)), Request(forget=(ROW,))
    assert first.id.startswith("request-")
    assert first.id != second.id
    assert first.received.endswith("Z")


def test_what_is_written_reads_back_as_itself(tmp_path: Path, deletion: Request) -> None:
    text = Example("", "A line of running text.", id="t")
    request = Request(
        forget=deletion.forget, retain=deletion.retain, general=(text,), id="case-7", reason="asked", due="2027-01-01"
    )
    request.write(tmp_path / "request.json")
    assert Request.read(tmp_path / "request.json") == request


def test_sets_are_read_from_files_beside_the_request(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "Who?", "answer": "She."}\n')
    (tmp_path / "request.json").write_text(json.dumps({"forget": "rows.jsonl", "retain": [{"text": "Kept."}]}))
    request = Request.read(tmp_path / "request.json")
    assert request.forget[0].answer == "She."
    assert request.retain[0] == Example("", "Kept.", id="retain-1")


def test_sets_are_read_from_files_that_are_named_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("q,a\nWho?,She.\n")
    request = Request.from_files(tmp_path / "rows.csv", fields=("q", "a"), id="x")
    assert (request.forget[0].prompt, request.id, request.retain) == ("Who?", "x", ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no field 'forget'"),
        ('{"retain": []}', "no field 'forget'"),
        ('{"forget": [{"text": "x"}], "retian": []}', "unknown field 'retian'"),
        ('{"forget": 3}', "field 'forget': found int"),
        ('{"forget": [3]}', "forget, row 1: found 3"),
        ("{", "line 1: not JSON"),
    ],
)
def test_a_request_file_that_is_wrong_says_where(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "request.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Request.read(tmp_path / "request.json")


def test_a_request_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json does not exist"):
        Request.read(tmp_path / "none.json")
