"""Run folders: atomic writes, hashes, the resolved configuration, versions, metrics line by line.

A file appears whole or not at all: it is written beside its place, flushed to the disk, and renamed. A folder
(a checkpoint, a saved model) appears whole or not at all in the same way and carries a manifest of its files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from letheon.core.errors import InputError, LetheonError

MANIFEST = "MANIFEST.json"
# Folders that a killed process may leave: half-written ones, and old ones that were moved aside.
LEFTOVER, ASIDE = ".letheon-new-", ".letheon-old-"


def utc_now() -> str:
    """The time now, ISO 8601 in UTC to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(what: Path, error: OSError) -> LetheonError:
    """What to say of a file or folder that could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space; old files are intact" if full else "choose another place; old files are intact"
    return LetheonError(f"could not write {what}: {error.strerror or error}", remedy)


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all; an older file stays intact until the rename."""
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
    """Refuse a folder that cannot be made or written, before any work is done for it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", "choose another --out")
    parent = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written: {parent} is no folder that can be", "choose another --out")


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write_bytes` for UTF-8 text."""
    atomic_write_bytes(path, text.encode())


def plain(value: Any) -> Any:
    """JSON-ready form of settings: dataclasses to dictionaries, paths to text, sets to sorted lists.

    Raises:
        LetheonError: for a number that JSON has no form for (NaN, infinity).
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
    """Read JSON; a missing or broken file is an `InputError` that names the line."""
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
        if "\\u" in text:  # escapes can spell what no file can hold
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "check the path") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})", "mend that line") from None
    except UnicodeEncodeError:
        raise InputError(f"{path}: half a surrogate pair, which is no character", "mend the escape sequence") from None
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8; numbers of thousands of digits; endless brackets
        raise InputError(f"{path} could not be read: {error}", "give a JSON file in UTF-8") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of one file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def canonical_hash(value: Any) -> str:
    """SHA-256 of the value's JSON with sorted keys and no white space; for settings, not for floats that vary."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def atomic_folder(folder: Path, needed_bytes: int = 0) -> Iterator[Path]:
    """A folder that appears whole or not at all: yield a temporary one, then manifest, flush, rename.

    Args:
        folder: where it shall stand; an older folder of that name is replaced only after the new one is complete.
        needed_bytes: refused beforehand when the disk has less free space than this.
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
        manifest = {str(f.relative_to(temporary)): {"bytes": f.stat().st_size, "sha256": sha256_of(f)} for f in files}
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
    """Put `new` at `place`; the old folder is moved aside first and removed last."""
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
    """Whether a folder written by `atomic_folder` has every file of its manifest, at its size (and hash)."""
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        return False
    for name, facts in read_json(manifest_path).items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            return False
        if hashes and sha256_of(file) != facts["sha256"]:
            return False
    return True


def versions() -> dict[str, str]:
    """Versions of what decides a result: Python, platform, and the packages that compute."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("letheon", "torch", "transformers", "accelerate", "peft", "numpy", "safetensors"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


class Run:
    """A folder that holds everything a run decides or measures.

    `config.json` (resolved settings and their hash), `metrics.jsonl` (a line a step), `checkpoints/`, and what the
    command adds. A second process on the same folder is refused while the first lives.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, config: dict[str, Any]) -> Run:
        """Start a run in an empty or new folder.

        Raises:
            InputError: the folder already holds a run.
        """
        if (folder / "config.json").exists():
            raise InputError(
                f"{folder} already holds a run",
                f"continue it with --resume {folder}, or choose another --out",
            )
        run = cls(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stored = {
            "config": config,
            "hash": canonical_hash(config),
            "versions": versions(),
            "started": utc_now(),
        }
        write_json(folder / "config.json", stored)
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open an existing run, to continue or to read it."""
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} holds no run (no config.json)", "give the --out folder of an earlier run")
        return cls(folder)

    @classmethod
    @contextlib.contextmanager
    def begun(cls, folder: Path, config: dict[str, Any], what: str) -> Iterator[Run]:
        """A run that is new, or was begun with the same config and is continued; no second process works in it.

        Args:
            what: is in the folder where the config differs: "a bench of other data, models or options".

        Raises:
            InputError: the folder's config is another.
        """
        check_writable(folder)
        if (folder / "config.json").is_file():
            run = cls.open(folder)
            if canonical_hash(run.config) != canonical_hash(config):
                raise InputError(f"{folder} holds {what}", "choose another --out")
        else:
            run = cls.create(folder, config)
        with run.lock():
            run.tidy()
            yield run

    @property
    def config(self) -> dict[str, Any]:
        """The resolved settings that the run was started with."""
        config: dict[str, Any] = read_json(self.folder / "config.json")["config"]
        return config

    def log(self, **values: Any) -> None:
        """Append one line to `metrics.jsonl` in a single write."""
        line = json.dumps(plain({"time": round(time.time(), 3), **values}), ensure_ascii=False) + "\n"
        path = self.folder / "metrics.jsonl"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unwritable(path, error) from error

    def tidy(self) -> None:
        """Mend what a killed process left: half-written folders go, a folder moved aside comes back if need be."""
        for parent in (self.folder, self.folder / "checkpoints"):
            for left in parent.glob(f"{LEFTOVER}*"):
                shutil.rmtree(left, ignore_errors=True)
            for aside in parent.glob(f"{ASIDE}*"):
                place = parent / aside.name.removeprefix(ASIDE)
                if place.exists():
                    shutil.rmtree(aside, ignore_errors=True)
                else:
                    os.replace(aside, place)

    def keep_metrics(self, steps: int) -> None:
        """Drop the lines of `metrics.jsonl` beyond a step: a resumed run writes them again."""
        path = self.folder / "metrics.jsonl"
        if path.is_file():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line).get("step", 0) <= steps]
            atomic_write_text(path, "".join(f"{line}\n" for line in kept))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run against a second process (an advisory lock that dies with the process)."""
        import fcntl

        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"another process works on {self.folder}", "wait for it, or choose another --out"
                ) from None
            yield
