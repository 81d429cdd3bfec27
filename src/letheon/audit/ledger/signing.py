"""Ed25519 signatures with the user's own key; `cryptography` is an optional dependency (the extra `audit`).

The private key is a PEM file (PKCS#8) of mode 0600, the public one a PEM file beside it: OpenSSL reads both.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.core.atomic import unwritable
from letheon.core.errors import InputError, LetheonError

PRIVATE = 0o600


@dataclass(frozen=True)
class Verifier:
    """A public key.

    Attributes:
        id: the first 16 hex digits of the SHA-256 of its 32 bytes.
    """

    id: str
    key: Any

    def accepts(self, message: bytes, signature: str) -> bool:
        """Whether the signature (hex) is this key's on the message."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(bytes.fromhex(signature), message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """A private key."""

    id: str
    key: Any

    def sign(self, message: bytes) -> str:
        """The signature, hex."""
        signature: bytes = self.key.sign(message)
        return signature.hex()


def keygen(path: Path) -> str:
    """Make a key pair: `path` (private, mode 0600) and `path`.pub; returns the key's id.

    Raises:
        InputError: a file is there already, which would be lost.
    """
    ed25519, forms = _cryptography()
    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        if file.exists():
            raise InputError(f"{file} exists already", "choose another name: a lost key cannot be made again")
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    try:
        write_new(path, private, PRIVATE)
        shown = key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
        write_new(public, shown, 0o644)
    except OSError as error:
        raise unwritable(path, error) from error
    return _id(key.public_key())


def read_signer(path: Path) -> Signer:
    """The private key in a file that its owner alone can read.

    Raises:
        InputError: no such file, readable by others, or no Ed25519 key.
    """
    ed25519, forms = _cryptography()
    content = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InputError(f"{path}: others may read this private key (mode {mode:04o})", f"chmod 600 {path}")
    try:
        key = forms.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: no private key ({error})", "make one with letheon ledger keygen") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(f"{path}: not an Ed25519 key", "make one with letheon ledger keygen")
    return Signer(_id(key.public_key()), key)


def read_verifier(path: Path) -> Verifier:
    """The public key in a file."""
    ed25519, forms = _cryptography()
    try:
        key = forms.load_pem_public_key(_read(path))
    except ValueError as error:
        raise InputError(f"{path}: no public key ({error})", "give the .pub file of letheon ledger keygen") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise InputError(f"{path}: not an Ed25519 key", "give the .pub file of letheon ledger keygen")
    return Verifier(_id(key), key)


def _id(public: Any) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror}", "check the path") from None


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist yet, with its mode from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise LetheonError("signing needs the package cryptography", "pip install 'letheon[audit]'") from None
    return ed25519, serialization
