"""Lists of methods on the command line, and the check that each method can work on a request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from letheon.core.errors import InputError
from letheon.forget.recipe import Recipe, StandaloneMethod, read_method
from letheon.forget.request import Request
from letheon.forget.run import check


def read_methods(methods: Sequence[str], request: Request) -> dict[str, Recipe | StandaloneMethod]:
    """Read methods and check each against the request; returns them by the names that were given.

    Raises:
        InputError: none, one twice, an unknown one, or one that this request lacks something for.
    """
    if not methods:
        raise InputError("no method is given", "name some: --methods npo,simnpo+geometric,rmu")
    found: dict[str, Recipe | StandaloneMethod] = {}
    for text in methods:
        recipe = read_method(text)
        if text in found:
            raise InputError(f"method {text!r} is given twice", "leave one out")
        check(recipe, request)
        found[text] = recipe
    return found


def split_methods(text: str) -> list[str]:
    """Split a list of methods at its commas, but not at those between a method's options: `npo:beta=0.1,alpha=2,rmu`.

    >>> split_methods("npo:beta=0.1,alpha=2,simnpo+geometric,rmu@layers=5-7")
    ['npo:beta=0.1,alpha=2', 'simnpo+geometric', 'rmu@layers=5-7']
    """
    methods: list[str] = []
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        if methods and re.match(r"\w+=", piece):  # an option: no objective begins so
            methods[-1] += f",{piece}"
        else:
            methods.append(piece)
    return methods
