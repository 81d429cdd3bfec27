"""The check of shapes that runs during the tests: it is installed, and every annotation can be evaluated."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import jaxtyping
import pytest
import torch
from jaxtyping import Float

import letheon
from letheon.core.training.reinforcement import group_advantages
from tests.shapes import check_shapes, jaxtyped_if_shaped

PACKAGE = Path(letheon.__file__).parent
SHAPES = ("Bool[", "Float[", "Int[", "Int8[", "UInt8[", "Num[", "Shaped[")


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        group_advantages(torch.zeros(3))


Square = Float[torch.Tensor, "n n"]


def plain(x: dict[str, torch.Tensor]) -> None:
    pass


def shaped(x: Square | None) -> None:
    pass


@dataclass
class Shaped:
    x: Square


def test_only_what_has_a_shape_is_wrapped() -> None:
    wrap = jaxtyped_if_shaped(typechecker=check_shapes)
    assert wrap(plain) is plain
    for refusing in (wrap(shaped), wrap(Shaped)):
        refusing(torch.zeros(2, 2))
        with pytest.raises(jaxtyping.TypeCheckError):
            refusing(torch.zeros(2, 3))


def shapes(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each annotation that contains a shape."""
    for node in ast.walk(ast.parse(source)):
        for hint in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if hint is not None and any(shape in ast.unparse(hint) for shape in SHAPES):
                yield hint.lineno, ast.unparse(hint)


def test_every_shape_can_be_evaluated() -> None:
    """jaxtyping passes over an annotation that it cannot evaluate: a name for type checkers only, a bare ellipsis."""
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if "jaxtyping" in source:
            name = ".".join(("letheon", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
            names = vars(import_module(name))
            for line, hint in shapes(source):
                try:
                    eval(hint, names)
                except Exception as error:  # whatever an annotation can raise
                    wrong.append(f"{file.relative_to(PACKAGE)}:{line}: {hint}: {error}")
    assert not wrong, "\n".join(wrong)
