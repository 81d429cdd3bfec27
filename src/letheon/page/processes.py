"""Processes that outlive the site: each has a group of its own, is recognised by number and start, and can be ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

LOG, PRINTED, CODE = "log.txt", "printed.json", "code"
# Runs a command and writes its exit code to a file, which a later process of the site can read. The shell waits for the
# command even if its group is asked to end.
KEEP_CODE = 'trap : TERM; folder="$1"; shift; "$@" >"$folder/printed.json" 2>"$folder/log.txt"; echo $? >"$folder/code"'


def start(arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start `letheon ARGUMENTS` in a process group of its own, with its output in files of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["/bin/sh", "-c", KEEP_CODE, "letheon", str(folder), sys.executable, "-m", "letheon", *arguments]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def birth(pid: int) -> str:
    """A text that tells a process from a later one of the same number; empty if there is none alive."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return "alive" if not Path("/proc/self").exists() and _answers(pid) else ""
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def alive(pid: int, born: str) -> bool:
    """Whether the process that had this number and start still runs."""
    return bool(born) and birth(pid) == born


def group_alive(pid: int, born: str) -> bool:
    """Whether that process, or any other of the group that it led, still runs."""
    present = birth(pid)
    if not born or present:
        return bool(born) and present == born
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return not Path("/proc/self").exists() or any(map(_of_group(pid), Path("/proc").glob("[0-9]*/stat")))


def end(pid: int, force: bool = False) -> None:
    """Ask a process group to end, or end it by force."""
    if pid <= 1:  # 0 is the site's own group
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL if force else signal.SIGTERM)


def exit_code(folder: Path) -> int | None:
    """The exit code that a finished process left, None if it left none."""
    try:
        return int((folder / CODE).read_text())
    except (OSError, ValueError):
        return None


def _of_group(pid: int) -> Callable[[Path], bool]:
    """A test whether a file `/proc/NUMBER/stat` is that of a live process of a group."""

    def test(stat: Path) -> bool:
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return False
        return fields[0] not in "ZX" and int(fields[2]) == pid

    return test


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
