"""Callable packages: `letheon.forget(...)` runs the main function of `letheon/forget/`."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def make_callable(package: str, module: str, function: str) -> None:
    """Make a package callable: a call imports `package.module` and runs its `function`."""

    class Room(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(f"{package}.{module}"), function)(*args, **kwargs)

    sys.modules[package].__class__ = Room
