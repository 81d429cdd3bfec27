"""`letheon methods`: the registered parts of recipes."""

from __future__ import annotations

from typing import cast, get_args

from letheon.core.errors import InputError, nearest
from letheon.core.registry import Kind, Method, methods


def list_methods(kind: str = "") -> list[Method]:
    """Return the registered methods, of one kind or of all.

    Raises:
        InputError: there is no such kind.
    """
    if kind and kind not in get_args(Kind):
        raise InputError(f"no kind {kind!r}", nearest(kind, list(get_args(Kind))))
    return list(methods(cast(Kind, kind) if kind else None))
