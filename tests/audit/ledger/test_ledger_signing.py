"""Signatures: the user's own Ed25519 key, refused where others can read it; unsigned is said, never passed over."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
from pathlib import Path
from shutil import which

import pytest

from letheon.audit.ledger import signing
from letheon.audit.ledger.chain import Head, check
from letheon.audit.ledger.entry import Output
from letheon.audit.ledger.exchange import PAYLOAD, pre_authentication, statement
from letheon.audit.ledger.signing import Verifier, keygen, read_signer, read_verifier
from letheon.audit.ledger.store import FILE, Ledger
from letheon.core.errors import InputError, LetheonError


@pytest.fixture
def public(private: Path) -> dict[str, Verifier]:
    key = read_verifier(private.with_name("key.pem.pub"))
    return {key.id: key}


@pytest.fixture
def signed(tmp_path: Path, private: Path) -> Ledger:
    made = Ledger.open(tmp_path / "signed", create=True, key=private)
    made.append("begin", request="r-1")
    made.append("begin", request="r-2")
    return made


def test_a_key_is_written_for_its_owner_only_and_never_over_another(tmp_path: Path) -> None:
    keygen(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        keygen(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_may_read_is_refused(private: Path, mode: int) -> None:
    private.chmod(mode)
    with pytest.raises(InputError, match="others may read"):
        read_signer(private)


def test_what_is_no_key_is_refused(tmp_path: Path, private: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("no key")
    bad.chmod(0o600)
    for read in (read_signer, read_verifier):
        with pytest.raises(InputError, match="no p"):
            read(bad)
        with pytest.raises(InputError, match="could not be read"):
            read(tmp_path / "none")
    with pytest.raises(InputError, match="no public key"):
        read_verifier(private)


@pytest.mark.skipif(which("openssl") is None, reason="openssl is not installed")
def test_openssl_reads_the_key(private: Path) -> None:
    shown = subprocess.run(["openssl", "pkey", "-in", str(private), "-noout", "-text"], capture_output=True, text=True)
    assert "ED25519" in shown.stdout.upper()


def test_every_entry_is_signed_and_checked_with_the_public_key_alone(
    signed: Ledger, public: dict[str, Verifier]
) -> None:
    found = check(signed.lines(), signed.head(), public)
    assert found.whole
    assert (found.signed, found.signed_up_to) == (3, 3)
    assert not any("UNSIGNED" in note for note in found.notes)
    assert any("NO SIGNATURE WAS CHECKED" in note for note in check(signed.lines()).notes)


def test_a_signature_of_another_key_and_one_taken_away_are_found(
    signed: Ledger, public: dict[str, Verifier], tmp_path: Path
) -> None:
    signed.connection.execute("DROP TRIGGER no_update")
    keygen(tmp_path / "other.pem")
    other = read_signer(tmp_path / "other.pem")
    signed.connection.execute("UPDATE entries SET signature = ? WHERE sequence = 2", (other.sign(b"x"),))
    assert signed.verify(keys=public).faults[0].sequence == 2
    signed.connection.execute("UPDATE entries SET signature = NULL WHERE sequence = 2")
    assert signed.verify().faults[0].sequence == 2, "found without any key too"


def test_an_unsigned_end_fails_closed(signed: Ledger, public: dict[str, Verifier]) -> None:
    plain = Ledger.open(signed.folder)
    plain.append("begin", request="r-3")
    found = plain.verify(keys=public)
    plain.close()
    assert [fault.sequence for fault in found.faults] == [4]
    assert "no signature" in found.faults[0].problem


def test_a_chain_written_anew_by_somebody_without_the_key_is_found(
    signed: Ledger, public: dict[str, Verifier], tmp_path: Path
) -> None:
    keygen(tmp_path / "other.pem")
    forged = Ledger.open(tmp_path / "forged", create=True, key=tmp_path / "other.pem")
    forged.append("begin", request="r-1")
    assert forged.verify().whole
    assert not forged.verify(keys=public).whole
    forged.close()


def test_a_head_says_by_whom_it_is_signed(signed: Ledger, public: dict[str, Verifier]) -> None:
    head = signed.head()
    assert head.size == 3
    assert head.signed_by in public
    changed = Head(head.size - 1, head.hash, head.ledger, head.signed_by, head.signature)
    assert "not signed" in signed.verify(changed, public).faults[0].problem, "the size is signed too"


def test_signing_without_the_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import builtins

    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LetheonError, match=r"letheon\[audit\]"):
        keygen(tmp_path / "key.pem")
    Ledger.open(tmp_path / "unsigned", create=True).close()
    assert signing.__name__


def test_a_signed_statement_is_a_dsse_envelope(signed: Ledger, public: dict[str, Verifier]) -> None:
    signed.append("forget", request="r-1", output=Output(folder="m", files={"model.safetensors": "c" * 64}))
    made = statement(signed, "r-1")
    body = base64.b64decode(made["payload"])
    assert json.loads(body)["subject"] == [{"name": "model.safetensors", "digest": {"sha256": "c" * 64}}]
    (signature,) = made["signatures"]
    message = pre_authentication(PAYLOAD, body)
    assert public[signature["keyid"]].accepts(message, base64.b64decode(signature["sig"]).hex())


def test_what_dsse_signs() -> None:
    """The example of the DSSE protocol."""
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication("http://example.com/HelloWorld", b"hello world") == expected


def test_the_private_key_is_not_in_the_ledger(signed: Ledger, private: Path) -> None:
    signed.close()
    raw = read_signer(private).key.private_bytes_raw()
    content = (signed.folder / FILE).read_bytes()
    assert raw not in content
    assert raw.hex().encode() not in content
    assert sqlite3.connect(signed.folder / FILE).execute("SELECT count(*) FROM entries").fetchone() == (3,)
