"""Keyed commitments: what a request's rows were can be shown while its key lives, and no longer once it is destroyed.

A commitment is HMAC-SHA-256 of a row under a random key of the request's own. The keys lie beside the ledger, a file
each, never in it: a ledger may be copied and kept for ever, a key is destroyed when the case is closed. A plain hash
would not do: rows can be guessed, so their plain hashes stay personal data.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import string
from dataclasses import dataclass
from pathlib import Path

from letheon.audit.ledger.canonical import canonical
from letheon.audit.ledger.signing import PRIVATE, write_new
from letheon.core.atomic import fsync_folder
from letheon.core.rows.examples import Example

SCHEME = "HMAC-SHA-256 of the row under a random key of the request"
DOMAIN = b"letheon.row/1\n"
KEY_BYTES, ID_BYTES = 32, 8


def commitment(key: bytes, row: Example) -> str:
    """HMAC-SHA-256 (hex) of a row's prompt and answer; its other fields may change without making it another row."""
    return hmac.new(key, DOMAIN + canonical([row.prompt, row.answer]), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Keys:
    """The keys of open requests, a file of mode 0600 each, named by a random id."""

    folder: Path

    def create(self) -> tuple[str, bytes]:
        """A new key, on the disk before it is used; its id and its bytes."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        name, key = secrets.token_hex(ID_BYTES), secrets.token_bytes(KEY_BYTES)
        write_new(self.folder / name, key, PRIVATE)
        fsync_folder(self.folder)
        return name, key

    def get(self, name: str) -> bytes | None:
        """A key by its id; None once it was destroyed (or is damaged)."""
        try:
            key = self._file(name).read_bytes()
        except FileNotFoundError:
            return None
        return key if len(key) == KEY_BYTES else None

    def destroy(self, name: str) -> bool:
        """Overwrite and remove a key; whether there was one.

        Overwriting reaches the place where the file lies, not what a file system or a disk with wear levelling kept
        elsewhere, nor backups.
        """
        try:
            with self._file(name).open("r+b") as file:
                file.write(bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except FileNotFoundError:
            return False
        self._file(name).unlink()
        fsync_folder(self.folder)
        return True

    def _file(self, name: str) -> Path:
        """The file of a key; an id that was not made here (a ledger may have been tampered with) names no file."""
        if len(name) != 2 * ID_BYTES or not set(name) <= set(string.hexdigits):
            raise FileNotFoundError(name)
        return self.folder / name
