"""One task in a process of its own: how it is started, what it is told, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from letheon.core.progress import is_quiet
from letheon.core.variables import JOBS, PRECISION, THREADS, TRACKER

CHILD = "letheon.core.child"
PATIENCE = 30.0  # seconds in which a child may save its state after it was asked to stop


@dataclass(frozen=True)
class Task:
    """A function call in a process of its own.

    Attributes:
        name: stands before the lines that the process prints.
        function: `module:name` of the function.
        arguments: keyword arguments that JSON can express.
    """

    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """The end of a task: the function's value, or the problem that ended it (empty where it ended well)."""

    value: Any = None
    problem: str = ""


def environment(jobs: int, threads: int, precision: str) -> dict[str, str]:
    """Return the variables of a child; a number of threads that the user set stays."""
    variables = {JOBS: str(jobs), PRECISION: precision}
    variables |= {name: os.environ[name] for name in (TRACKER,) if name in os.environ}
    if "OMP_NUM_THREADS" not in os.environ or THREADS in os.environ:
        variables |= {"OMP_NUM_THREADS": str(threads), THREADS: str(threads)}
    return variables


def automatic_precision() -> str:
    """Return what `precision="auto"` is on this processor; children that measured it would disturb each other."""
    import torch

    from letheon.core.hardware import resolve_precision

    return resolve_precision("auto", torch.device("cpu"))


def run_child(task: Task, variables: Mapping[str, str], stopped: threading.Event, folder: str | None = None) -> Ended:
    """Run a task in a child process, in `folder`, and wait for it; end the child when `stopped` is set.

    The child reads the task as one line and ends when its standard input does, so it never outlives this process.
    """
    # a group of its own, so that Ctrl-C reaches this process alone, which then asks every child once
    group: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {"creationflags": 0x200}
    process = subprocess.Popen(
        [sys.executable, "-m", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **variables, "PYTHONIOENCODING": "utf-8"},
        cwd=folder,
        **group,
    )
    lines: list[str] = []
    reader = threading.Thread(target=_relay, args=(process, task.name, lines), daemon=True)
    try:
        reader.start()
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it ended at once: its exit code says more
            process.stdin.write(json.dumps({**asdict(task), "quiet": is_quiet()}) + "\n")
            process.stdin.flush()
        answers: list[str] = []
        listener = threading.Thread(target=_listen, args=(process, answers), daemon=True)
        listener.start()
        while process.poll() is None and not stopped.wait(0.05):
            pass
    finally:
        _end(process)
    listener.join()
    reader.join()
    return _ended(process.returncode, answers[0], lines)


def _listen(process: subprocess.Popen[str], answers: list[str]) -> None:
    assert process.stdout is not None
    answers.append(process.stdout.read())


def _relay(process: subprocess.Popen[str], name: str, lines: list[str]) -> None:
    """Print the child's lines with its name before each, and hold the last ones."""
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line.rstrip())
        del lines[:-5]
        if not is_quiet():
            print(f"[{name}] {line.rstrip()}", file=sys.stderr, flush=True)


def _end(process: subprocess.Popen[str]) -> None:
    """Ask a child to stop (a training saves its state first), and kill it if it has not after a while."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _ended(code: int, answer: str, lines: Sequence[str]) -> Ended:
    try:
        said = json.loads(answer)
    except json.JSONDecodeError:
        last = next((line for line in reversed(lines) if line), "")
        return Ended(problem=f"its process ended with code {code}{': ' if last else ''}{last}")
    return Ended(said.get("value"), said.get("problem", ""))
