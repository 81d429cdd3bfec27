"""What leaves the ledger: a file that is verified without it, and provenance statements that other tools read.

An export has an entry a line: {"entry": ..., "hash": ..., "signature": ...}, each line canonical JSON. Statements are
in-toto (https://in-toto.io/Statement/v1), signed ones in a DSSE envelope.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from letheon.audit.ledger.canonical import canonical, parse
from letheon.audit.ledger.chain import Fault, Head, Line, Verification, is_hash
from letheon.audit.ledger.signing import Signer
from letheon.audit.ledger.store import Ledger, read_entry
from letheon.core.atomic import atomic_write_bytes, read_json, sha256_of
from letheon.core.errors import InputError, LetheonError

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:letheon:unlearning:v1"
PAYLOAD = "application/vnd.in-toto+json"


def export(ledger: Ledger, path: Path) -> int:
    """Write all entries to a file that `verify` reads without the ledger; returns how many.

    Raises:
        LetheonError: the chain is broken: what is exported would not be what was written.
    """
    if not (found := ledger.verify()).whole:
        first = found.faults[0]
        raise LetheonError(f"the ledger is not whole: entry {first.sequence}: {first.problem}", "letheon ledger verify")
    lines = ledger.lines()
    atomic_write_bytes(path, b"".join(export_line(line) for line in lines))
    return len(lines)


def export_line(line: Line) -> bytes:
    """One line of an export; the entry's bytes stand in it as they are stored."""
    end = f',"signature":"{line.signature}"' if line.signature else ""
    return b'{"entry":' + line.entry + f',"hash":"{line.hash}"{end}}}\n'.encode()


def read_export(path: Path) -> list[Line]:
    """The entries of an export; a line that is none becomes an entry that is at fault.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return lines_of(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{path} could not be read: {error.strerror}", "give a file of letheon ledger export"
        ) from None


def lines_of(content: bytes) -> list[Line]:
    """The entries of an export's content."""
    *lines, rest = content.split(b"\n")
    return [_line(text) for text in lines] + ([Line(b"", "")] if rest else [])  # the last line was torn


def _line(text: bytes) -> Line:
    try:
        found = parse(text)
        line = Line(canonical(found["entry"]), found["hash"], found.get("signature"))
        return line if export_line(line) == text + b"\n" else Line(b"", "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, LetheonError):
        return Line(b"", "")


def read_head(given: str) -> Head | str:
    """A head kept elsewhere: its hash, or the file that `letheon ledger head --json` printed.

    Raises:
        InputError: it is neither.
    """
    if is_hash(given):
        return given
    content = read_json(Path(given))
    try:
        return Head(**content)
    except TypeError:
        raise InputError(f"{given} holds no head", "give a hash, or a file of letheon ledger head --json") from None


def find_audit(lines: list[Line], path: Path, result: Verification) -> None:
    """Note which entry speaks of an audit.json, or that none does: then it was changed, or never recorded.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist", "check the path")
    digest = sha256_of(path)
    entries = [read_entry(line, "the ledger") for line in lines]
    found = [entry.sequence for entry in entries if entry.audit is not None and entry.audit.sha256 == digest]
    if found:
        result.notes.append(f"{path} is the audit of entry {found[-1]}")
    else:
        result.faults.append(Fault(None, f"{path} is the audit of no entry: it was changed, or not recorded"))


def statement(ledger: Ledger, request: str) -> dict[str, Any]:
    """An in-toto statement about the model that a request's deletion made: its files, and what the ledger says of it.

    With a key it comes in a DSSE envelope.

    Raises:
        InputError: the ledger has no outcome with files for this request.
    """
    entries = ledger.entries()
    found = [entry for entry in entries if entry.request == request and entry.output is not None]
    if not found:
        raise InputError(f"the ledger has no model files for request {request!r}", "see letheon ledger list")
    entry = found[-1]
    predicate = {
        **entry.to_json(),
        "chain": {"ledger": entries[0].ledger, "hash": ledger.lines()[entry.sequence - 1].hash},
        "limits": "approximate unlearning is not proof of erasure; what was measured is in the audit of this hash",
    }
    for private in ("commitments", "output"):
        predicate.pop(private, None)
    files = entry.output.files if entry.output else {}
    made = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in files.items()],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    return envelope(made, ledger.signer) if ledger.signer else made


def envelope(made: dict[str, Any], signer: Signer) -> dict[str, Any]:
    """A DSSE envelope around a statement."""
    body = canonical(made)
    signature = bytes.fromhex(signer.sign(pre_authentication(PAYLOAD, body)))
    return {
        "payloadType": PAYLOAD,
        "payload": base64.b64encode(body).decode(),
        "signatures": [{"keyid": signer.id, "sig": base64.b64encode(signature).decode()}],
    }


def pre_authentication(kind: str, body: bytes) -> bytes:
    """What DSSE signs: the type and the payload, each with its length."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)
