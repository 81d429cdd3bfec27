"""`letheon new`: write the file of a method, a probe or a paper, and its test, from a template."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from letheon.core.atomic import atomic_write_text, check_writable
from letheon.core.errors import InputError, nearest
from letheon.core.registry import methods
from letheon.papers.catalogue import papers

# Where a kind's files stand in this repository: the folder of the package, and the folder of the tests.
PLACES = {
    "objective": ("forget/objectives", "forget"),
    "update": ("forget/updates", "forget"),
    "scope": ("forget/scopes", "forget"),
    "sampler": ("forget/samplers", "forget"),
    "edit": ("forget/edits", "forget"),
    "procedure": ("forget/procedures", "forget"),
    "strategy": ("retain/strategies", "retain/strategies"),
    "steering": ("steer/methods", "steer"),
    "probe": ("probe", "probe"),
    "paper": ("papers", "papers"),
}
# What a paper's entry in `catalogue.toml` looks like.
ENTRY = """[[paper]]
number = 1000
key = "$key"
title = "TITLE"
room = "ROOM"
gives = "GIVES"
claim = "CLAIM"
"""


@dataclass(frozen=True)
class NewFiles:
    """The written files, and the entry that a paper needs in `catalogue.toml` (empty for a method)."""

    file: Path
    test: Path
    entry: str = ""


def write_new(kind: str, name: str, out: Path) -> NewFiles:
    """Write a method, a probe or a paper's reproduction and its test: a small working example to be changed.

    Args:
        kind: objective, update, scope, sampler, edit, procedure, strategy, steering, probe or paper.
        name: the name on the command line: lower-case letters, digits and underscores (in a paper's key also dashes).
        out: a checkout of this repository, whose own folders then get the files; or any folder, which gets both.

    Raises:
        InputError: an unknown kind, a name that is unfit or taken, or a file that exists; nothing has been written.
    """
    if kind not in PLACES:
        raise InputError(f"no kind {kind!r}", nearest(kind, list(PLACES)) or "one of " + ", ".join(PLACES))
    stem = name.replace("-", "_") if kind == "paper" else name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stem):
        raise InputError(f"name {name!r}", "use lower-case letters, digits and underscores, such as my_objective")
    taken = [one.key for one in papers()] if kind == "paper" else [record.name for record in methods()]
    if name in taken:
        raise InputError(f"{name!r} exists already", "choose another name; see letheon methods and letheon papers")
    place, tests = PLACES[kind]
    inside = (out / "src" / "letheon" / place).is_dir()
    file = (out / "src" / "letheon" / place if inside else out) / f"{stem}.py"
    test = (out / "tests" / tests if inside else out) / f"test_{stem}.py"
    for path in (file, test):
        check_writable(path.parent)
        if path.exists():
            raise InputError(f"{path} exists", "choose another name or another --out")
    module = f"letheon.{place.replace('/', '.')}.{stem}" if inside else stem
    words = {"name": stem, "key": name, "module": module, "Class": "".join(map(str.capitalize, stem.split("_")))}
    for path, template in ((file, f"{kind}.py.txt"), (test, f"{kind}_test.py.txt")):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = files("letheon.jobs").joinpath("templates", template).read_text(encoding="utf-8")
        own = "letheon" if inside else stem
        atomic_write_text(path, _with_sorted_imports(Template(text).substitute(words), own))
    return NewFiles(file, test, Template(ENTRY).substitute(words) if kind == "paper" else "")


def _with_sorted_imports(text: str, own: str) -> str:
    """Sort a file's imports from outside the standard library as linters do; `own` is the first-party package."""
    lines = text.splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if re.match(r"(import|from) ", line)]
    standard = [i for i in places if lines[i].split()[1].split(".")[0] in (*sys.stdlib_module_names, "__future__")]
    begin, end = max(standard) + 1, max(places) + 1
    outside = [lines[i] for i in places if i >= begin]
    outside.sort(key=lambda line: (line.startswith("from"), line.split()[1]))
    sections = [[line for line in outside if (line.split()[1].split(".")[0] == own) == mine] for mine in (False, True)]
    lines[begin:end] = ["\n" + "".join(section) for section in sections if section]
    return "".join(lines)
