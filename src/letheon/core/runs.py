"""Run folders: the resolved configuration, package versions, and metrics as JSON lines."""

import contextlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from letheon.core.atomic import (
    ASIDE,
    LEFTOVER,
    atomic_write_text,
    canonical_hash,
    check_writable,
    plain,
    read_json,
    unwritable,
    write_json,
)
from letheon.core.errors import InputError
from letheon.core.tracking import copy_metrics


def utc_now() -> str:
    """Return the present time, ISO 8601 in UTC to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def slug(name: str) -> str:
    """Turn the name of a method into that of a file or folder."""
    return re.sub(r"[^\w.+@%=-]+", "_", name)


def refuse_changes(names: Sequence[str], folder: Path | None) -> None:
    """Refuse options that would change a resumed run, which keeps the settings that it was started with.

    Args:
        names: the options that were given beside `--resume`.
    """
    if names:
        raise InputError(
            f"--resume and {', '.join(names)} are given; a resumed run keeps the settings that it was started with",
            f"leave them out, or start a new run with another --out than {folder}",
        )


def versions() -> dict[str, str]:
    """Collect the versions that can affect results: Python, platform, and the packages that compute."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("letheon", "torch", "transformers", "accelerate", "peft", "diffusers", "numpy", "safetensors"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


class Run:
    """A folder with the settings and measurements of a run.

    It contains `config.json` (resolved settings and their hash), `metrics.jsonl` (one line per step), `checkpoints/`,
    and the command's own files. A lock refuses a second process on the same folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, config: dict[str, Any]) -> Self:
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
    def open(cls, folder: Path) -> Self:
        """Open an existing run.

        Raises:
            InputError: the folder holds no run.
        """
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} holds no run (no config.json)", "give the --out folder of an earlier run")
        return cls(folder)

    @classmethod
    @contextlib.contextmanager
    def begun(cls, folder: Path, config: dict[str, Any], what: str) -> Iterator[Self]:
        """Start a run, or continue one with the same config, and hold its lock while the block runs.

        Args:
            what: names the folder's content in the error, such as "a bench of other data, models or options".

        Raises:
            InputError: the folder holds a run with another config.
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
        """The resolved settings with which the run was started."""
        config: dict[str, Any] = read_json(self.folder / "config.json")["config"]
        return config

    def log(self, **values: Any) -> None:
        """Append one line to `metrics.jsonl` in a single write."""
        line = json.dumps(plain({"time": round(time.time(), 3), **values}), ensure_ascii=False) + "\n"
        path = self.folder / "metrics.jsonl"
        try:
            # Windows ends lines otherwise unless the file is binary
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            descriptor = os.open(path, flags, 0o644)
            try:
                os.write(descriptor, line.encode(errors="replace"))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unwritable(path, error) from error
        copy_metrics(self.folder, values)

    def tidy(self) -> None:
        """Clean up after a killed process: delete half-written folders, restore a folder that was moved aside."""
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
        """Delete the lines of `metrics.jsonl` beyond a step: a resumed run writes them again."""
        path = self.folder / "metrics.jsonl"
        if path.is_file():
            # a text may hold other signs that end lines elsewhere
            lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.endswith("}")]
            kept = [line for line in lines if json.loads(line).get("step", 0) <= steps]
            atomic_write_text(path, "".join(f"{line}\n" for line in kept))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run against other processes while the block runs (an advisory lock that ends with the process)."""
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            problem = f"another process works on {self.folder}"
            raise InputError(problem, "wait for it, or choose another --out") from None
        try:
            yield
        finally:
            lock.release()
