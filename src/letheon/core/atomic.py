"""Atomic writes of files and folders; JSON; hashes.

A file is written to a temporary name, flushed to disk, and renamed. A folder (a checkpoint, a saved model) is written
in the same way and contains a manifest of its files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError, LetheonError

MANIFEST = "MANIFEST.json"


# Prefixes of folders that a killed process may leave: half-written ones, and old ones that were moved aside.
LEFTOVER, ASIDE = ".letheon-new-", ".letheon-old-"


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut. Windows opens no folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(what: Path, error: OSError) -> LetheonError:
    """Make the error for a file or folder that could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space; old files are intact" if full else "choose another place; old files are intact"
    return LetheonError(f"could not write {what}: {error.strerror or error}", remedy)


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically; an older file stays intact until the rename."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Raise an InputError if a folder cannot be created or written, before any work is done for it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", "choose another --out")
    parent = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written: {parent} is no folder that can be", "choose another --out")


def atomic_write_text(path: Path, text: str) -> None:
    """Write text to `path` atomically, as UTF-8."""
    atomic_write_bytes(path, text.encode())


def plain(value: Any) -> Any:
    """Convert settings to JSON-ready values: dataclasses to dictionaries, paths to text, sets to sorted lists.

    Raises:
        LetheonError: a number is NaN or infinite, which JSON cannot express.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise LetheonError(f"{value} cannot be written as JSON", "this is a fault of the caller: report it")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    atomic_write_text(path, json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is not JSON; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
        if "\\u" in text:  # escapes can spell half a surrogate pair, which UTF-8 cannot encode
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "check the path") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})", "mend that line") from None
    except UnicodeEncodeError:
        raise InputError(f"{path}: half a surrogate pair, which is no character", "mend the escape sequence") from None
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8; numbers with thousands of digits; deep nesting
        raise InputError(f"{path} could not be read: {error}", "give a JSON file in UTF-8") from None


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_hash(value: Any) -> str:
    """Compute the SHA-256 of the value's JSON (sorted keys, no white space). Use it for settings, not measurements."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def atomic_folder(folder: Path, needed_bytes: int = 0) -> Iterator[Path]:
    """Write a folder atomically: yield a temporary folder; then write its manifest, flush, and rename it.

    Args:
        folder: the final path; an older folder there is replaced once the new one is complete.
        needed_bytes: free disk space that is needed.

    Raises:
        LetheonError: the disk has less free space, or a file cannot be written.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < needed_bytes:
            raise LetheonError(
                f"{folder} needs {needed_bytes / 1e6:,.1f} MB and the disk has {free / 1e6:,.1f} MB free",
                "free some space or choose another --out; old files are intact",
            )
        temporary = Path(tempfile.mkdtemp(prefix=f"{LEFTOVER}{folder.name}.", dir=folder.parent))
        yield temporary
        files = sorted(file for file in temporary.rglob("*") if file.is_file())
        manifest = {
            file.relative_to(temporary).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
            for file in files
        }
        for file in files:
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        write_json(temporary / MANIFEST, manifest)
        _swap(temporary, folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, place: Path) -> None:
    """Rename `new` to `place`; an old folder is moved aside first and removed last."""
    os.chmod(new, 0o755)
    aside = place.with_name(f"{ASIDE}{place.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if place.exists():
        os.replace(place, aside)
    try:
        os.replace(new, place)
    except OSError:
        if aside.exists():
            os.replace(aside, place)
        raise
    fsync_folder(place.parent)
    shutil.rmtree(aside, ignore_errors=True)


def is_whole(folder: Path, hashes: bool = False) -> bool:
    """Return whether a folder has all files of its `atomic_folder` manifest, with their sizes (and hashes).

    A manifest that is broken lists nothing.
    """
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        return False
    try:
        manifest = read_json(manifest_path)
    except InputError:
        return False
    for name, facts in manifest.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            return False
        if hashes and sha256_of(file) != facts["sha256"]:
            return False
    return True
