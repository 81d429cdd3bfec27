"""`letheon new`: write the file of a method and its test from a template."""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import get_args

from letheon.core.atomic import atomic_write_text, check_writable
from letheon.core.errors import InputError, nearest
from letheon.core.registry import Kind, methods

# Where a kind's files stand in this repository: the folder of the package, and the folder of the tests.
PLACES: dict[Kind, tuple[str, str]] = {
    "objective": ("forget/objectives", "forget"),
    "update": ("forget/updates", "forget"),
    "scope": ("forget/scopes", "forget"),
    "sampler": ("forget/samplers", "forget"),
    "edit": ("forget/edits", "forget"),
    "procedure": ("forget/procedures", "forget"),
    "strategy": ("retain/strategies", "retain/strategies"),
}


def write_method(kind: str, name: str, out: Path) -> tuple[Path, Path]:
    """Write a method and its test: a small method that works and is there to be changed.

    Args:
        kind: objective, update, scope, sampler, edit, procedure or strategy.
        name: the method's name on the command line: lower-case letters, digits and underscores.
        out: a checkout of this repository, whose own folders then get the files; or any folder, which gets both.

    Returns:
        The method's file and the test's.

    Raises:
        InputError: an unknown kind, a name that is unfit or taken, or a file that exists; nothing has been written.
    """
    if kind not in PLACES:
        raise InputError(f"no kind {kind!r}", nearest(kind, list(PLACES)) or "one of " + ", ".join(get_args(Kind)))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(f"name {name!r}", "use lower-case letters, digits and underscores, such as my_objective")
    if name in [record.name for record in methods()]:
        raise InputError(f"a method is called {name!r} already", "choose another name; letheon methods lists them all")
    place, tests = PLACES[kind]
    inside = (out / "src" / "letheon" / place).is_dir()
    file = (out / "src" / "letheon" / place if inside else out) / f"{name}.py"
    test = (out / "tests" / tests if inside else out) / f"test_{name}.py"
    for path in (file, test):
        check_writable(path.parent)
        if path.exists():
            raise InputError(f"{path} exists", "choose another name or another --out")
    module = f"letheon.{place.replace('/', '.')}.{name}" if inside else name
    values = {"name": name, "Class": "".join(word.capitalize() for word in name.split("_")), "module": module}
    for path, template in ((file, f"{kind}.py.txt"), (test, f"{kind}_test.py.txt")):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = files("letheon.jobs").joinpath("templates", template).read_text(encoding="utf-8")
        own = "letheon" if inside else name
        atomic_write_text(path, _with_sorted_imports(Template(text).substitute(values), own))
    return file, test


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
