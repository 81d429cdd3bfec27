"""The plan of the house: what imports what, how long files and functions are, what importing the package costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import letheon

SOURCE = Path(letheon.__file__).parent
ROOT = SOURCE.parents[1]

# A package imports from packages further left, and from itself. The same line stands in the documents named below.
FLOORS = (
    "`core` < `report` < `probe` < `forget`, `retain`, `steer`, `attend`, `recall` < `audit` < `measure`, `compare` < "
    "`papers` < `page` < `jobs` < `printing`, `cli`, `testing`"
)
DOCUMENTS = ("docs/architecture.md", "CONTRIBUTING.md")
LEVELS = {name.strip("`"): level for level, names in enumerate(FLOORS.split(" < ")) for name in names.split(", ")}
TOP = max(LEVELS.values())  # the command line, and the modules directly in `letheon`: demo, doctor, testing

LONGEST_FILE, LONGEST_FUNCTION = 350, 60  # lines

FILES = {str(file.relative_to(SOURCE)): file for file in sorted(SOURCE.rglob("*.py"))}


def module_name(name: str) -> str:
    return ".".join(("letheon", *Path(name).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(name): name for name in FILES}


class Content(NamedTuple):
    """What a file holds: its tree is not kept, for all trees together are slow to go through for rubbish."""

    docstring: str
    imported: frozenset[str]  # names, of the package or not
    lines: dict[str, int]  # of each function


@cache
def content(name: str) -> Content:
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    imported: set[str] = set()
    lines: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{name}: relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= {module if module in MODULES else node.module for module in submodules}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines[node.name] = max(lines.get(node.name, 0), (node.end_lineno or node.lineno) - node.lineno + 1)
    return Content(ast.get_docstring(tree) or "", frozenset(imported), lines)


def imports(name: str) -> frozenset[str]:
    """The modules of the package that a file imports anywhere, in functions and under `TYPE_CHECKING` as well."""
    return content(name).imported & set(MODULES)


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_packages_import_only_from_floors_below() -> None:
    wrong = []
    for module, name in MODULES.items():
        package = package_of(module) if "/" in name else ""
        level = LEVELS.get(package, TOP)
        for imported in imports(name):
            other = package_of(imported)
            if not (other in ("", package) or LEVELS.get(other, TOP) < level or level == TOP):
                wrong.append(f"{name} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_every_package_stands_on_a_floor() -> None:
    packages = {folder.name for folder in SOURCE.iterdir() if (folder / "__init__.py").exists()}
    assert packages <= set(LEVELS), f"give a floor to {packages - set(LEVELS)}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_state_the_same_floors(document: str) -> None:
    text = " ".join((ROOT / document).read_text(encoding="utf-8").split())
    assert FLOORS in text, f"{document} must contain: {FLOORS}"


def circles(graph: dict[str, frozenset[str]]) -> Iterator[set[str]]:
    """The strongly connected components of more than one node: modules that reach each other by their imports."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for node in graph[waiting.pop()] - seen:
                seen.add(node)
                waiting.append(node)
        return seen

    below = {node: reached(node) for node in graph}
    for node in graph:
        circle = {other for other in below[node] if node in below[other]}
        if len(circle) > 1 and node == min(circle):
            yield circle


def test_no_modules_import_each_other() -> None:
    # `letheon` itself only names what its modules export
    graph = {module: imports(name) - {"letheon"} for module, name in MODULES.items() if module != "letheon"}
    new = list(circles(graph))
    assert not new, "\n".join(", ".join(sorted(circle)) for circle in new)


def test_circles_are_detected() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b"), "d": frozenset("a")}
    assert list(circles(graph)) == [{"b", "c"}]


def test_files_are_short() -> None:
    long = {name for name, file in FILES.items() if len(file.read_text().splitlines()) > LONGEST_FILE}
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{name}:{function}"
        for name in FILES
        for function, lines in content(name).lines.items()
        if lines > LONGEST_FUNCTION
    }
    assert not long


def test_every_package_says_what_it_holds_and_what_it_may_import() -> None:
    packages = {str(Path(name).parent): name for name in FILES if name.endswith("/__init__.py")}
    says = {package: content(name).docstring for package, name in packages.items()}
    silent = {package for package, text in says.items() if not re.search(r"\b[Ii]mport(s|ed)?\b", text)}
    assert not silent


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy_and_takes_no_time() -> None:
    code = """
import sys, time
start = time.process_time()
import letheon, letheon.forget, letheon.audit, letheon.papers
seconds = time.process_time() - start
heavy = [name for name in ("torch", "transformers", "numpy", "matplotlib") if name in sys.modules]
print(seconds < 0.5, heavy, seconds)
"""
    assert run(code).startswith("True []")


def test_public_names_are_listed_and_resolve() -> None:
    code = """
import letheon
for name in letheon.__all__:
    getattr(letheon, name)
assert set(letheon.__all__) == set(dir(letheon))
try:
    letheon.nothing
except AttributeError as error:
    print(error)
"""
    assert run(code) == "module 'letheon' has no attribute 'nothing'"
