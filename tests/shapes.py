"""Checks the shapes of tensors while the tests run: every jaxtyping annotation of the package, and nothing else.

Importing this module installs the check, so conftest.py imports it before anything of `letheon`. Plain types are left
to mypy: checking them at run time costs time and refuses the stand-ins that tests use.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import beartype


def has_shape(hint: Any) -> bool:
    """Whether a type hint contains a jaxtyping annotation."""
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(has_shape(part) for part in get_args(hint))


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with beartype's checks of those of its arguments and results that have a shape."""
    shapes = {name: hint for name, hint in function.__annotations__.items() if has_shape(hint)}
    if not shapes:
        return function
    function.__annotations__ = shapes
    return beartype(function)


jaxtyping.install_import_hook("letheon", "tests.shapes.check_shapes")
