"""Recipes: an objective, an update, a scope and a sampler composed by a text such as `simnpo+geometric@lora%cyclic`.

Grammar: `OBJECTIVE[+UPDATE][@SCOPE][%SAMPLER]`, each part `NAME[=VALUE][:OPTION=VALUE,...]`; the bare value goes to
the part's first option (`layers=5-7`). The defaults are the update `joint`, the scope `everything` and the sampler
`paired`. A named recipe (`letheon.core.registry.named_recipes`) stands for a whole text, or for an edit or procedure.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from letheon.core.atomic import plain
from letheon.core.errors import InputError, nearest
from letheon.core.parts import Part as Part
from letheon.core.parts import name_of, read_part
from letheon.core.registry import STANDALONE, Kind, make_settings, methods, named_recipes

if TYPE_CHECKING:
    from torch import nn

    from letheon.forget.request import Request

DEFAULTS: dict[Kind, str] = {"update": "joint", "scope": "everything", "sampler": "paired"}
MARKS: dict[str, Kind] = {"": "objective", "+": "update", "@": "scope", "%": "sampler"}


class _Method:
    """What recipes, edits and procedures do by their parts: each part's class may have hooks of these names."""

    parts: tuple[Part, ...]

    def check(self, request: Request | None = None) -> None:
        """Let every part refuse a combination or a request that cannot work (`InputError`): `check_recipe`."""
        self._ask("check_recipe", request)

    def check_model(self, model: nn.Module) -> None:
        """Let every part refuse an architecture that it cannot work on (`InputError`); no weight is read."""
        self._ask("check_model", model)

    def needs(self) -> set[str]:
        """Inputs that the parts require beside forget rows."""
        return set().union(*(part.method.needs for part in self.parts))

    def config(self) -> dict[str, Any]:
        """All options of all parts, resolved."""
        return {part.method.kind: {"name": part.method.name, **plain(part.settings)} for part in self.parts}

    def _ask(self, hook: str, about: Any) -> None:
        """Call `hook(self, about)` of every part's class that has it."""
        for part in self.parts:
            if (check := getattr(part.method.factory, hook, None)) is not None:
                check(self, about)


@dataclass(frozen=True)
class Recipe(_Method):
    """An objective, an update, a scope and a sampler, each with its options.

    Attributes:
        objective, update, scope, sampler: the four parts.
        text: as the user wrote it.
    """

    objective: Part
    update: Part
    scope: Part
    sampler: Part
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read a recipe; an error names the part and the nearest known name.

        >>> str(Recipe.parse("simnpo+geometric@lora"))
        'simnpo+geometric@lora'
        """
        text = text.strip()
        pieces: dict[Kind, str] = {**DEFAULTS, **_expanded(_pieces(text))}
        recipe = cls(**{kind: _part(kind, piece) for kind, piece in pieces.items()}, text=text)
        recipe.check()
        return recipe

    @property
    def parts(self) -> tuple[Part, ...]:  # type: ignore[override]  # made of the fields
        """Objective, update, scope and sampler."""
        return self.objective, self.update, self.scope, self.sampler

    @property
    def recommended(self) -> Mapping[str, Any]:
        """Training settings that go with the recipe's name."""
        name = re.split(r"[+@%:]", self.text)[0]
        owner = named_recipes().get(name, self.objective.method)
        return owner.recommended if name in (owner.recipes or (owner.name,)) else {}

    @property
    def recomputes(self) -> bool:
        """Whether its blocks may be run again in the backward pass."""
        return bool(getattr(self.objective.method.factory, "recomputes", True))

    def check_shards(self, model: nn.Module | None) -> None:
        """Let every part refuse to train weights that lie in shards (`InputError`); no weight is read."""
        self._ask("check_shards", model)

    def option(self, name: str) -> Any:
        """The value of an option of the objective; None if it has no such option."""
        return getattr(self.objective.settings, name, None)

    def with_option(self, name: str, value: Any) -> Recipe:
        """The recipe with one option of its objective changed."""
        options = {
            f.name: getattr(self.objective.settings, f.name) for f in dataclasses.fields(self.objective.settings)
        }
        part = Part(self.objective.method, make_settings(self.objective.method, {**options, name: value}))
        return dataclasses.replace(self, objective=part)

    def __str__(self) -> str:
        text = str(self.objective)
        # a named recipe of this name implies other parts
        implied = {} if self.objective.method.name in named_recipes() else DEFAULTS
        for mark, kind in list(MARKS.items())[1:]:
            part = str(getattr(self, kind))
            if part != implied.get(kind):
                text += mark + part
        return text


@dataclass(frozen=True)
class StandaloneMethod(_Method):
    """An edit (one change of the weights) or a procedure (several stages) with its options.

    Attributes:
        part: its record and options.
        text: as the user wrote it.
    """

    part: Part
    text: str = field(default="", compare=False)
    recomputes: ClassVar[bool] = True

    @property
    def parts(self) -> tuple[Part, ...]:  # type: ignore[override]  # as above
        """The one part."""
        return (self.part,)

    @property
    def recommended(self) -> Mapping[str, Any]:
        """Training settings that go with the method."""
        return self.part.method.recommended

    def __str__(self) -> str:
        return str(self.part)


def read_method(text: str) -> Recipe | StandaloneMethod:
    """Read a recipe, or an edit or procedure.

    Raises:
        InputError: an unknown name (the message offers the nearest one), an unknown option, or parts that cannot work
            together.
    """
    text = text.strip()
    head, _, options = text.partition(":")
    owner = named_recipes().get(head)
    whole = _with_options(owner.recipes[head], options) if owner and owner.kind in STANDALONE else text
    alone = {record.name: record.kind for kind in STANDALONE for record in methods(kind)}
    kind = alone.get(name_of(whole))
    return Recipe.parse(text) if kind is None else StandaloneMethod(_part(kind, whole), text)


def _with_options(text: str, options: str) -> str:
    return f"{text}{',' if ':' in text else ':'}{options}" if options else text


def _pieces(text: str) -> dict[Kind, str]:
    """Split a recipe's text at the marks; returns each part's text by its kind."""
    found = re.findall(r"([+@%]?)([^+@%]+)", text)
    if not found or "".join(mark + piece for mark, piece in found) != text or found[0][0]:
        raise InputError(f"method {text!r} cannot be read", "write OBJECTIVE[+UPDATE][@SCOPE][%SAMPLER]")
    pieces: dict[Kind, str] = {}
    for mark, piece in found:
        if MARKS[mark] in pieces:
            raise InputError(f"method {text!r} has two {MARKS[mark]}s", f"leave one of them out: {piece!r}")
        pieces[MARKS[mark]] = piece
    return pieces


def _expanded(pieces: dict[Kind, str]) -> dict[Kind, str]:
    """Spell a named recipe out: parts that are given win; options after its name go to its objective."""
    name, _, options = pieces["objective"].partition(":")
    owner = named_recipes().get(name)
    if owner is None or owner.kind in STANDALONE:
        return pieces
    named = _pieces(owner.recipes[name])
    return {**named, **pieces, "objective": _with_options(named["objective"], options)}


def _part(kind: Kind, text: str) -> Part:
    name = name_of(text)
    if kind == "objective" and name not in [method.name for method in methods()]:
        known = [record.name for part_kind in (*STANDALONE, kind) for record in methods(part_kind)]
        raise InputError(f"no method is called {name!r}", nearest(name, [*named_recipes(), *known]))
    return read_part(kind, text)
