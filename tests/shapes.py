"""Checks the shapes of tensors while the tests run: every jaxtyping annotation of the package, and nothing else.

Importing this module installs the check, so conftest.py imports it before anything of `letheon`. Plain types are left
to mypy: checking them at run time costs time and refuses the stand-ins that tests use. Modules without shapes
are imported as they are: to rewrite them all takes a quarter of a minute per process. Functions without shapes are left
as they are: jaxtyping's wrapper around each call of each would take a sixth of the time of the tests.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any, get_args

import jaxtyping
from beartype import beartype
from jaxtyping._decorator import _destring_annotation as evaluated


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


jaxtyped = jaxtyping.jaxtyped
plain: set[CodeType] = set()  # functions without shapes; a function in another is defined again at every call of it


def jaxtyped_if_shaped(*, typechecker: Any) -> Callable[[Any], Any]:
    """jaxtyping's decorator for what has a shape; anything else is left as it is."""

    def decorate(wrapped: Any) -> Any:
        function = wrapped.__init__ if inspect.isclass(wrapped) else wrapped
        code = getattr(function, "__code__", None)
        if code is None or code in plain:
            return wrapped
        if any(has_shape(evaluated(hint, function.__globals__)) for hint in function.__annotations__.values()):
            return jaxtyped(wrapped, typechecker=typechecker)
        plain.add(code)
        return wrapped

    return decorate


def modules_with_shapes() -> Iterator[str]:
    """Yield the names of the package's modules that name jaxtyping or an alias of one of its types."""
    package = Path(find_spec("letheon").origin).parent
    texts = {file.relative_to(package.parent): file.read_text(encoding="utf-8") for file in package.rglob("*.py")}
    aliases = re.findall(r"^(\w+) = (?:Float|Int|Bool)\[", "\n".join(texts.values()), re.MULTILINE)
    naming = re.compile(rf"\b(?:{'|'.join(['jaxtyping', *aliases])})\b")
    for file, text in texts.items():
        if naming.search(text):
            yield ".".join(file.with_suffix("").parts).removesuffix(".__init__")


jaxtyping.jaxtyped = jaxtyped_if_shaped  # the hook names it in the modules that it rewrites
jaxtyping.install_import_hook(list(modules_with_shapes()), "tests.shapes.check_shapes")
