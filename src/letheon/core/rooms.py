"""A room (package) that can be called: `letheon.forget(...)` runs the main job of `letheon/forget/`."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def make_callable(package: str, module: str, function: str) -> None:
    """Let the package be called; the call imports `package.module` and runs `function` of it."""

    class Room(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(f"{package}.{module}"), function)(*args, **kwargs)

    sys.modules[package].__class__ = Room
