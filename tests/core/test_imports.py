"""The plan of the house: what imports what, and that importing the package costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import letheon

SOURCE = Path(letheon.__file__).parent
# A room imports from lower levels and itself; rooms of one level do not know each other.
LEVELS = {"core": 0, "report": 1, "probe": 2, "forget": 3, "retain": 3, "steer": 3, "attend": 3, "recall": 3}
LEVELS |= {"audit": 4, "measure": 5, "compare": 5, "papers": 6, "jobs": 7, "printing": 8, "cli": 8, "testing": 8}
TOP = 8  # the command line, demo, testing and what else stands beside the rooms


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that are run: what stands under `if TYPE_CHECKING` is for type checkers only."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
            yield from walk(child)


def imports(file: Path) -> list[str]:
    """All modules of the package that a file imports when it is run, also inside functions."""
    found = []
    for node in walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            found.append(node.module)
    return [name for name in found if name.split(".")[0] == "letheon"]


def test_rooms_import_only_from_rooms_below() -> None:
    wrong = []
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).parts
        room = parts[0] if len(parts) > 1 else ""
        level = LEVELS.get(room, TOP)
        for name in imports(file):
            other = room_of(name)
            allowed = other in ("", room) or LEVELS.get(other, TOP) < level or level == TOP
            if not allowed:
                wrong.append(f"{file.relative_to(SOURCE)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_level() -> None:
    rooms = {folder.name for folder in SOURCE.iterdir() if (folder / "__init__.py").exists()}
    assert rooms <= set(LEVELS), f"give a level to {rooms - set(LEVELS)}"


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
