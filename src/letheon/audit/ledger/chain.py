"""The hash chain: each entry's hash covers the one before, so a change inside is found, and found where it is.

    h_0 = SHA-256(domain),   h_n = SHA-256(domain || h_(n-1) || canonical(entry n))

A chain shows changed, removed, swapped and inserted entries. It does not show that its end was cut off, nor that all
of it was written anew by somebody who can write the file: for that a head is kept elsewhere (`Head`, signed where there
is a key).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from letheon.audit.ledger.canonical import canonical, parse
from letheon.audit.ledger.signing import Verifier
from letheon.core.errors import LetheonError

DOMAIN = b"letheon.ledger/1\n"
GENESIS = hashlib.sha256(DOMAIN).hexdigest()


def link(previous: str, entry: bytes) -> str:
    """The hash of an entry (hex) from the hash before it and the entry's canonical bytes."""
    return hashlib.sha256(DOMAIN + bytes.fromhex(previous) + entry).hexdigest()


def is_hash(text: str) -> bool:
    """Whether this is a SHA-256 in lower-case hex."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


@dataclass(frozen=True)
class Line:
    """An entry as it is stored or exported.

    Attributes:
        entry: canonical JSON.
        hash: its hash in the chain, hex.
        signature: Ed25519 over the head that this entry made, hex; None where no key was given.
        place: the number under which it was stored, where there is one beside the entry's own.
    """

    entry: bytes
    hash: str
    signature: str | None = None
    place: int | None = None


@dataclass(frozen=True)
class Head:
    """The end of a chain: how many entries, and the hash of the last. Kept elsewhere, it shows what was cut off."""

    size: int
    hash: str
    ledger: str = ""
    signed_by: str | None = None
    signature: str | None = None


@dataclass(frozen=True)
class Fault:
    """Something wrong, and at which entry (None: with the file as a whole)."""

    sequence: int | None
    problem: str


@dataclass
class Verification:
    """What verifying a chain found.

    Attributes:
        size, head: number of entries read, hash of the last.
        faults: what is wrong; none means whole, as far as a chain can show.
        notes: what a reader should know all the same.
        signed: entries with a signature that was checked.
        signed_up_to: the last entry that a checked signature covers.
    """

    size: int = 0
    head: str = GENESIS
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signed: int = 0
    signed_up_to: int = 0

    @property
    def whole(self) -> bool:
        """Whether no fault was found."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {"whole": self.whole, **asdict(self)}


def check(
    lines: Iterable[Line], head: Head | str | None = None, keys: Mapping[str, Verifier] | None = None
) -> Verification:
    """Verify a chain.

    Args:
        lines: the entries in their order.
        head: an earlier end of this chain, kept elsewhere: a `Head`, or its hash alone.
        keys: public keys by their ids; with them, an end that no signature covers is a fault.
    """
    walk = _Walk(keys or {})
    for line in lines:
        walk.step(line)
    found = walk.result
    if not found.size:
        found.faults.append(Fault(1, "there are no entries; a ledger has one from its beginning"))
    found.head = walk.hashes[walk.expected - 1]
    if head is not None:
        _compare_head(found, walk, head if isinstance(head, Head) else Head(0, head))
    _say_of_signatures(found, walk)
    return found


class _Walk:
    """The chain as far as it has been read."""

    def __init__(self, keys: Mapping[str, Verifier]) -> None:
        self.keys = keys
        self.result = Verification()
        self.expected = 1
        self.hashes = {0: GENESIS}
        # What the hash of each entry read so far is by computation and by what is stored: after a fault either may
        # be the true one, and what follows is judged by the one that fits, so that one change is one fault.
        self.possible: dict[int, set[str]] = {0: {GENESIS}}
        self.marked = 0  # entries that say they were signed
        self.time = ""

    def step(self, line: Line) -> None:
        """Judge one entry, and where it stands."""
        self.result.size += 1
        entry = _read(line.entry)
        sequence = self._sequence(line, entry)
        if sequence > self.expected:
            gone = f"entry {self.expected}" + (f" to {sequence - 1} are" if sequence > self.expected + 1 else " is")
            self._fault(self.expected, f"{gone} missing")
        elif sequence < self.expected:
            self._fault(self.expected, f"where entry {self.expected} belongs stands entry {sequence}")
            return
        self.expected = sequence + 1
        self.hashes[sequence] = line.hash
        before = self.possible.get(sequence - 1, set())
        stored = {line.hash} if is_hash(line.hash) else set()
        self.possible[sequence] = stored | {link(one, line.entry) for one in before}
        if entry is None:
            self._fault(sequence, "the entry is not canonical JSON: it was changed")
        elif entry.get("sequence") != sequence:
            self._fault(sequence, f"the entry says that it is entry {entry.get('sequence')}: it was moved or changed")
        elif before and line.hash not in {link(one, line.entry) for one in before}:
            self._fault(sequence, "the entry or its hash was changed")
        else:
            self._look_at(line, entry, sequence)

    def _sequence(self, line: Line, entry: dict[str, Any] | None) -> int:
        if line.place is not None:
            return line.place
        found = entry.get("sequence") if entry else None
        return found if isinstance(found, int) else self.expected

    def _look_at(self, line: Line, entry: dict[str, Any], sequence: int) -> None:
        """Time and signature of an entry that is in order itself."""
        time = str(entry.get("time", ""))
        if time < self.time:
            self.result.notes.append(f"entry {sequence}: its time {time} is before that of the entry before it")
        self.time = max(time, self.time)
        signer = entry.get("signed_by")
        self.marked += signer is not None
        if (signer is None) != (line.signature is None):
            state = "was signed and has no signature" if signer else "was not signed and has a signature"
            self._fault(sequence, f"the entry {state}")
        elif signer is not None and line.signature is not None and (key := self.keys.get(str(signer))):
            if key.accepts(head_message(sequence, line.hash), line.signature):
                self.result.signed += 1
                self.result.signed_up_to = sequence
            else:
                self._fault(sequence, f"the signature is not that of key {signer} on this entry")

    def _fault(self, sequence: int, problem: str) -> None:
        self.result.faults.append(Fault(sequence, problem))


def _read(text: bytes) -> dict[str, Any] | None:
    """An entry from its bytes; None where they are not the canonical form of an object."""
    try:
        found = parse(text)
        return found if isinstance(found, dict) and canonical(found) == text else None
    except (ValueError, RecursionError, LetheonError):
        return None


def _compare_head(found: Verification, walk: _Walk, head: Head) -> None:
    """An earlier end must still be in the chain."""
    key = walk.keys.get(head.signed_by or "")
    if key is not None:
        if not key.accepts(head_message(head.size, head.hash), head.signature or ""):
            found.faults.append(Fault(None, f"the given head is not signed by key {head.signed_by}"))
            return
    elif walk.keys:
        found.notes.append("the given head is not signed by a key that was given")
    last = walk.expected - 1
    known = {value: sequence for sequence, value in walk.hashes.items()}
    if head.size and last < head.size:
        found.faults.append(Fault(last + 1, f"the end was cut off: entries {last + 1} to {head.size} are missing"))
    elif head.size and walk.hashes.get(head.size) != head.hash:
        found.faults.append(Fault(head.size, "another chain than that of the given head: entries were written anew"))
    elif head.hash not in known:
        found.faults.append(
            Fault(last + 1, f"the given head is not among the {last} entries: the end was cut off or written anew")
        )
    elif (since := last - known[head.hash]) > 0:
        found.notes.append(f"the given head is entry {known[head.hash]}; {since} entries were written since")


def _say_of_signatures(found: Verification, walk: _Walk) -> None:
    last = walk.expected - 1
    if walk.keys and found.signed_up_to < last:
        rest = f"entries {found.signed_up_to + 1} to {last}"
        found.faults.append(Fault(found.signed_up_to + 1, f"no signature by a given key covers {rest}"))
    elif not walk.keys and walk.marked:
        found.notes.append(f"{walk.marked} entries are signed; no public key was given, so NO SIGNATURE WAS CHECKED")
    elif not walk.keys:
        found.notes.append("UNSIGNED: whoever can write the file could have written all of it anew")


def head_message(size: int, digest: str) -> bytes:
    """What is signed for a head: its size and hash, under a domain of its own."""
    return b"letheon.ledger.head/1\n" + canonical({"head": digest, "size": size})
