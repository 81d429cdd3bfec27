"""The check of shapes that runs during the tests: it is installed, and no annotation escapes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

import letheon
from letheon.core.training.reinforcement import group_advantages

SHAPES = {"Bool", "Float", "Int", "Int8", "UInt8", "Num", "Shaped"}


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        group_advantages(torch.zeros(3))


def only_for_type_checkers(module: ast.Module) -> set[str]:
    """The names that a module imports under `if TYPE_CHECKING`."""
    blocks = [
        node for node in module.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    imports = [node for block in blocks for node in ast.walk(block) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}


def names_beside_shapes(module: ast.Module) -> Iterator[tuple[int, set[str]]]:
    """Line and names of each annotation that contains a shape."""
    for node in ast.walk(module):
        hints = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for hint in filter(None, hints):
            names = {part.id for part in ast.walk(hint) if isinstance(part, ast.Name)}
            if names & SHAPES:
                yield hint.lineno, names


def test_every_shape_can_be_resolved_when_its_module_is_imported() -> None:
    """An annotation with a name that exists for type checkers only would not be checked."""
    wrong = []
    for file in sorted(Path(letheon.__file__).parent.rglob("*.py")):
        module = ast.parse(file.read_text(encoding="utf-8"))
        hidden = only_for_type_checkers(module)
        wrong += [f"{file}:{line}: {names & hidden}" for line, names in names_beside_shapes(module) if names & hidden]
    assert not wrong, "\n".join(wrong)
