"""Nothing in the source can run code out of data, or reach for what was not asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import letheon

SOURCE = Path(letheon.__file__).parent
# (pattern, why) - a text that must not occur in the package's source
FORBIDDEN = [
    (r"\bpickle\b(?=[\s.]*(import|load|dump|\.|$))|\bimport pickle\b|\bcloudpickle\b|\bdill\b", "runs code from files"),
    (r"\btorch\.(load|save)\(", "reads or writes pickles"),
    (r"weights_only\s*=\s*False", "runs code from files"),
    (r"trust_remote_code\s*=\s*True", "runs code from the network"),
    (r"(?<![\w.])eval\(", "runs text as code; `model.eval()` is another thing"),
    (r"(?<![\w.])exec\(", "runs text as code"),
    (r"\byaml\.load\(", "builds objects out of text"),
    (r"shell\s*=\s*True", "lets a shell read arguments"),
    (r"\bos\.(system|popen)\(", "lets a shell read arguments"),
    (r"tempfile\.mktemp\(", "a name that somebody else may take"),
    (r"\|\s*safe\b", "lets data write HTML"),
    (r"\bos\.chdir\(", "moves the whole process"),
]
# (file, pattern) that is allowed, each with its reason
ALLOWED: dict[tuple[str, str], str] = {}


@pytest.mark.parametrize(("pattern", "why"), FORBIDDEN, ids=[why + " " + p[:12] for p, why in FORBIDDEN])
def test_the_source_does_not_hold(pattern: str, why: str) -> None:
    found = []
    for file in sorted(path for path in SOURCE.rglob("*") if path.suffix in (".py", ".html", ".j2", ".jinja")):
        name = str(file.relative_to(SOURCE))
        if (name, pattern) in ALLOWED:
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if re.search(pattern, line):
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, f"{why}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("import pickle", True),
        ("from pickle import load", True),
        ("pickle.loads(x)", True),
        ("torch.load(path)", True),
        ("value = eval(text)", True),
        ("model.eval()", False),
        ("self.model.to(device).eval()", False),
        ("exec(code)", True),
        ("subprocess.run(line, shell=True)", True),
        ("{{ name | safe }}", True),
        ("pickled weights are refused", False),
    ],
)
def test_the_patterns_catch_what_they_should(line: str, caught: bool) -> None:
    assert any(re.search(pattern, line) for pattern, _ in FORBIDDEN) is caught
