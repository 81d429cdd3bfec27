"""`letheon methods`: the registered parts of recipes, and the families of models that they work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, get_args

from letheon.core.errors import InputError, nearest
from letheon.core.model.families import FAMILIES, family_structure
from letheon.core.registry import Kind, Method, methods, named_recipes
from letheon.forget.recipe import MARKS, Recipe, StandaloneMethod, read_method
from letheon.forget.run import DEFAULTS

if TYPE_CHECKING:
    from torch import nn


def list_methods(kind: str = "") -> list[Method]:
    """Return the registered methods, of one kind or of all.

    Raises:
        InputError: there is no such kind.
    """
    if kind and kind not in get_args(Kind):
        raise InputError(f"no kind {kind!r}", nearest(kind, list(get_args(Kind))))
    return list(methods(cast(Kind, kind) if kind else None))


@dataclass(frozen=True)
class FamilyVerdict:
    """Whether a method works on a family of models.

    Attributes:
        method: the method's name, with the kind of part that it is.
        family: title of the family.
        refused: the reason why it is refused before loading, with what would work; empty if it works.
    """

    method: str
    family: str
    refused: str = ""


def family_verdicts() -> list[FamilyVerdict]:
    """Ask the default, every method and every named recipe whether it works on each family, from structures alone."""
    found: list[FamilyVerdict] = []
    structures = {family.title: family_structure(kind) for kind, family in FAMILIES.items()}
    for name, text in asked_methods().items():
        recipe = read_method(text)
        found += [FamilyVerdict(name, title, _refusal(recipe, model)) for title, model in structures.items()]
    return found


def asked_methods() -> dict[str, str]:
    """Return what `family_verdicts` asks about: a label, and the method's text; parts go with `npo`."""
    asked = {f"default {DEFAULTS[0]}": DEFAULTS[0]}
    for record in methods():
        mark = next((mark for mark, kind in MARKS.items() if kind == record.kind), None)
        if record.kind in ("edit", "procedure"):
            asked[f"{record.kind} {record.name}"] = record.name
        elif mark is not None:
            partner = getattr(record.factory, "goes_with", "")
            asked[f"{record.kind} {record.name}"] = f"{f'npo{mark}' if mark else ''}{record.name}{partner}"
    return asked | {f"recipe {name}": name for name in named_recipes()}


def _refusal(recipe: Recipe | StandaloneMethod, model: nn.Module) -> str:
    try:
        recipe.check_model(model)
    except InputError as error:
        return f"{error.problem}; {error.remedy}"
    return ""
