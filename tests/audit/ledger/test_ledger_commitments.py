"""Commitments show what rows were while their key lives, and nothing once it is destroyed."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from pathlib import Path

import pytest

from letheon.audit.ledger import recording
from letheon.audit.ledger.cases import cases
from letheon.audit.ledger.commitments import Keys, commitment
from letheon.audit.ledger.entry import ModelRef
from letheon.audit.ledger.recheck import DESTROYED, matching
from letheon.audit.ledger.store import Ledger
from letheon.core.errors import InputError
from letheon.core.rows.examples import Example
from letheon.forget.request import Request


def test_a_commitment_is_the_hmac_of_prompt_and_answer() -> None:
    row = Example("Who?", "Ann.", id="1", subject="Ann")
    expected = hmac.new(b"k" * 32, b'letheon.row/1\n["Who?","Ann."]', hashlib.sha256).hexdigest()
    assert commitment(b"k" * 32, row) == expected
    assert commitment(b"k" * 32, replace(row, id="2", subject=None)) == expected, "the same row, named otherwise"
    assert commitment(b"j" * 32, row) != expected


def test_keys_are_private_files_and_leave_no_bytes(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    name, key = keys.create()
    assert keys.get(name) == key
    assert (tmp_path / "keys" / name).stat().st_mode & 0o777 == 0o600
    linked = tmp_path / "still the same file"
    linked.hardlink_to(tmp_path / "keys" / name)
    assert keys.destroy(name)
    assert linked.read_bytes() == bytes(32), "it was overwritten before it was removed"
    assert keys.get(name) is None
    assert not keys.destroy(name)


def test_a_forged_key_id_reaches_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"p" * 32)
    (tmp_path / "keys").mkdir()
    keys = Keys(tmp_path / "keys")
    assert keys.get("../precious") is None
    assert not keys.destroy("../precious")
    assert (tmp_path / "precious").read_bytes() == b"p" * 32


def begun(ledger: Ledger, case: Request, before: ModelRef) -> None:
    recording.begin(ledger, case, before, "npo", {"steps": 2})


def test_rows_are_known_by_their_commitments_until_the_case_is_closed(
    ledger: Ledger, case: Request, before: ModelRef
) -> None:
    begun(ledger, case, before)
    strangers = [Example("Who?", "Nobody.")]
    stand = cases(ledger.entries())["case-7"]
    assert matching(ledger, stand, [*strangers, *case.forget]) == list(case.forget)
    assert matching(ledger, stand, strangers) == "none of its rows is in the given files"
    closing = recording.close(ledger, "case-7")
    assert closing.key_destroyed
    stand = cases(ledger.entries())["case-7"]
    assert stand.state == "closed"
    assert matching(ledger, stand, case.forget) == DESTROYED
    assert not list((ledger.folder / "keys").iterdir())
    assert ledger.verify().whole, "the commitments stay: they say nothing any more"


def test_a_closed_case_cannot_be_closed_again_and_an_unknown_one_not_at_all(
    ledger: Ledger, case: Request, before: ModelRef
) -> None:
    begun(ledger, case, before)
    recording.close(ledger, "case-7")
    with pytest.raises(InputError, match="is closed"):
        recording.close(ledger, "case-7")
    with pytest.raises(InputError, match="did you mean 'case-7'"):
        recording.close(ledger, "case-8")


def test_a_closing_that_was_killed_halfway_can_be_repeated(ledger: Ledger, case: Request, before: ModelRef) -> None:
    begun(ledger, case, before)
    made = cases(ledger.entries())["case-7"].commitments[-1]
    ledger.keys.destroy(made.key)  # and then the process died
    assert recording.close(ledger, "case-7").key_destroyed is False


def test_a_request_keeps_its_key_and_changed_rows_get_another(ledger: Ledger, case: Request, before: ModelRef) -> None:
    begun(ledger, case, before)
    begun(ledger, case, before)
    begun(ledger, replace(case, forget=case.forget[:1]), before)
    keys = [entry.commitments.key for entry in ledger.entries() if entry.commitments]
    assert keys[0] == keys[1] != keys[2]


def test_two_requests_with_one_row_cannot_be_linked(ledger: Ledger, case: Request, before: ModelRef) -> None:
    begun(ledger, case, before)
    begun(ledger, replace(case, id="case-8"), before)
    made = [entry.commitments.rows["forget"] for entry in ledger.entries() if entry.commitments]
    assert not set(made[0]) & set(made[1])


def test_a_key_whose_entry_was_not_written_is_gone(ledger: Ledger, case: Request, before: ModelRef) -> None:
    with pytest.raises(InputError, match="method"):
        recording.begin(ledger, case, before, "x" * 1001, {})
    assert not list((ledger.folder / "keys").iterdir())


def stored_bytes(ledger: Ledger) -> bytes:
    """Everything that lies in the ledger's folder, keys included, while it is open and after."""
    return b"".join(file.read_bytes() for file in sorted(ledger.folder.rglob("*")) if file.is_file())


def test_no_text_of_a_row_and_no_plain_hash_of_it_is_stored(ledger: Ledger, case: Request, before: ModelRef) -> None:
    begun(ledger, case, before)
    content = stored_bytes(ledger)
    ledger.close()
    content += stored_bytes(ledger)
    for row in (*case.forget, *case.retain):
        for text in filter(None, (row.prompt, row.answer, row.subject, row.value)):
            assert text.encode() not in content
            for form in (
                text,
                f"{row.prompt}{row.answer}",
                f"{row.prompt}\n{row.answer}",
                f'["{row.prompt}","{row.answer}"]',
            ):
                for kind in (hashlib.sha256, hashlib.sha1, hashlib.md5):
                    digest = kind(form.encode())
                    assert digest.hexdigest().encode() not in content
                    assert digest.digest() not in content


def test_commitments_cannot_be_guessed_without_the_key(ledger: Ledger, case: Request, before: ModelRef) -> None:
    begun(ledger, case, before)
    recording.close(ledger, "case-7")
    stored = {one for entry in ledger.entries() if entry.commitments for one in entry.commitments.rows["forget"]}
    guesses = [
        bytes(32),
        b"",
        b"case-7".ljust(32, b"\0"),
        *(hashlib.sha256(line.entry).digest() for line in ledger.lines()),
    ]
    for key in guesses:
        known = {commitment(key, row) for row in case.forget}
        assert not stored & known, "somebody who knows the rows has nothing to check them with"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"reason": "erasure for Torvik Aldane"}, "reason"),
        ({"id": "torvik-aldane"}, "id"),
        ({"reason": "the one from brenholm."}, "reason"),
    ],
)
def test_a_reason_with_personal_data_is_refused(
    ledger: Ledger, case: Request, before: ModelRef, changes: dict[str, str], named: str
) -> None:
    with pytest.raises(InputError, match=f"the {named} holds a text of forget row f-1"):
        begun(ledger, replace(case, **changes), before)
    assert len(ledger.entries()) == 1
