"""Nothing in the source works on Linux alone without saying so: encodings, signals, processes, names of files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import letheon

SOURCE = Path(letheon.__file__).parent
# (pattern, why); a line that checks for the name first (hasattr, os.name) is fine
FORBIDDEN = [
    (r"\bos\.(fork|setsid|killpg|getpgid|getuid|uname|wait\w*)\(", "missing on Windows"),
    (r"\bsignal\.(SIGKILL|SIGHUP|SIGUSR\d|SIGALRM|SIGCHLD|SIGQUIT|alarm)\b", "missing on Windows"),
    (r"^\s*(import|from) (fcntl|resource|pwd|grp|termios)\b", "missing on Windows"),
    (r"\bos\.symlink\(|\.symlink_to\(|\.hardlink_to\(", "needs rights on Windows"),
    (r"\b(read_text|write_text)\((?!.*(encoding|\"utf))", "takes the system's encoding"),
    (r"(?<![\w.])open\((?!.*(encoding|\"[rwax]b))|\.open\(\"[rwa]t?\"\)", "takes the system's encoding"),
    (r"strftime\([^)]*%[HIM]:.*(folder|path|name)", "a colon in a file's name"),
    (r"\bdatetime\.now\(\)|\bos\.getloadavg\(", "local time, or missing on Windows"),
    (r"\"/(tmp|dev|proc|sys)/", "a path of Linux"),
]
GUARDED = re.compile(r"hasattr\(|os\.name|sys\.platform|is_file\(\)")
ALLOWED = {  # files in which a line is fine, with the reason
    ("papers/catalogue.py", "a path of Linux"),  # read where it exists
    ("page/processes.py", "missing on Windows"),  # the site needs a POSIX shell, groups and signals
    ("page/processes.py", "a path of Linux"),  # where there is no /proc, the process is asked by a signal
    ("page/processes.py", "takes the system's encoding"),  # a number that a shell wrote
    ("page/queue.py", "takes the system's encoding"),  # a line of the log, in the encoding of the log's other lines
}


def faults(text: str, pattern: str) -> list[int]:
    """Return the numbers of the lines that match and check for nothing."""
    lines = text.splitlines()
    return [
        number
        for number, line in enumerate(lines, start=1)
        if re.search(pattern, line) and not GUARDED.search(line) and not line.lstrip().startswith("def ")
    ]


@pytest.mark.parametrize(("pattern", "why"), FORBIDDEN, ids=[pattern[:24] for pattern, _ in FORBIDDEN])
def test_the_source_holds_nothing_of_one_system(pattern: str, why: str) -> None:
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        name = file.relative_to(SOURCE).as_posix()
        if (name, why) not in ALLOWED:
            found += [f"{name}:{number}" for number in faults(file.read_text(encoding="utf-8"), pattern)]
    assert not found, f"{why}: {', '.join(found)}"


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("os.killpg(group, signal.SIGTERM)", True),
        ("os.kill(process, signal.SIGKILL)", True),
        ("import fcntl", True),
        ("text = path.read_text()", True),
        ('text = path.read_text(encoding="utf-8")', False),
        ("with open(path) as file:", True),
        ('with path.open("a") as file:', True),
        ('with path.open("rb") as file:', False),
        ("signal.signal(signal.SIGTERM, stop)", False),
        ('load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0', False),
        ('folder = out / now.strftime("%H:%M-name")', True),
    ],
)
def test_the_patterns_catch_what_they_should(line: str, caught: bool) -> None:
    assert any(faults(line, pattern) for pattern, _ in FORBIDDEN) is caught
