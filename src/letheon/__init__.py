"""Letheon edits, protects and examines what neural networks remember.

Names are imported on first use, so that `import letheon` is fast: `load`, `forget`, `audit`, `Request`, `Example`.
`letheon.forget`, `letheon.audit` and `letheon.compare` are packages that can be called: a call runs the main function.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads of OpenMP that wait for each other burn the processor by default; beside another busy process a run then takes
# several times as long. The variable is read when torch is loaded, so it is set here; a user's own choice stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Apple's mps lacks some operations; torch then computes them on the processor. Also read when torch is loaded.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

_PLACES = {
    "load": ("letheon.core.model.models", "load"),
    "LanguageModel": ("letheon.core.model.models", "LanguageModel"),
    "Example": ("letheon.core.rows.examples", "Example"),
    "read_examples": ("letheon.core.rows.examples", "read_examples"),
    "Request": ("letheon.forget.request", "Request"),
    "Recipe": ("letheon.forget.recipe", "Recipe"),
    "LetheonError": ("letheon.core.errors", "LetheonError"),
    "learn": ("letheon.retain.learn", "learn"),
    "Stream": ("letheon.retain.stream", "Stream"),
}

if TYPE_CHECKING:
    from letheon.audit.run import audit as audit
    from letheon.compare.run import compare as compare
    from letheon.core.errors import LetheonError as LetheonError
    from letheon.core.model.models import LanguageModel as LanguageModel
    from letheon.core.model.models import load as load
    from letheon.core.rows.examples import Example as Example
    from letheon.core.rows.examples import read_examples as read_examples
    from letheon.forget.recipe import Recipe as Recipe
    from letheon.forget.request import Request as Request
    from letheon.forget.run import forget as forget
    from letheon.retain.learn import learn as learn
    from letheon.retain.stream import Stream as Stream

_ROOMS = ("forget", "audit", "compare", "papers", "attend")

__all__ = ["__version__", *_PLACES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"letheon.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'letheon' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
