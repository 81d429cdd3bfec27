"""The registry of methods: one frozen record per method, made by a decorator in the method's own file.

A third-party package adds methods by naming a module in the entry-point group `letheon.methods`; importing the module
runs its decorators. No other file has to change.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from letheon.core.errors import InputError, nearest

Kind = Literal["objective", "update", "scope", "sampler", "edit", "procedure", "strategy", "steering"]
STANDALONE: tuple[Kind, ...] = ("edit", "procedure")
ROOMS = (
    "letheon.forget.objectives",
    "letheon.forget.updates",
    "letheon.forget.scopes",
    "letheon.forget.samplers",
    "letheon.forget.edits",
    "letheon.forget.procedures",
    "letheon.retain.strategies",
    "letheon.steer.methods",
)
Class = TypeVar("Class", bound=type)


@dataclass(frozen=True)
class Method:
    """A method's record: everything that can be said about it without running it.

    Attributes:
        name: its name on the command line.
        kind: the part of a recipe that it is; `edit` and `procedure` stand alone; a `strategy` learns task by task; a
            `steering` changes activations.
        summary: the first sentence of its file.
        paper: arXiv id or citation; None if no paper describes it.
        needs: inputs that it requires beside forget rows: `retain`, `reference`, `alternates`, `subject`.
        wants: inputs that it uses if they are given.
        factory: the class; it is called with the settings.
        settings: the frozen dataclass of its options.
        recipes: named recipes that its file declares, name -> what the name stands for.
        recommended: training settings by name, used with its named recipes; if it has none, with its own name.
        tiny: option sets with which `letheon.testing.check_method` runs it on the tiny model of four layers.
        seeded: whether another seed gives another result.
        adapter: whether it edits a LoRA adapter, so that the battery gives it a model that has one.
        turns: whether exchanging forget and retain rows shows in the answers' likelihood after three steps from random
            weights; a method without that shows its direction in a test of its own.
    """

    name: str
    kind: Kind
    summary: str
    paper: str | None
    needs: frozenset[str]
    wants: frozenset[str]
    factory: Callable[..., Any]
    settings: type
    recipes: Mapping[str, str] = field(default_factory=dict, compare=False)
    recommended: Mapping[str, Any] = field(default_factory=dict, compare=False)
    tiny: tuple[Mapping[str, Any], ...] = field(default=({},), compare=False)
    seeded: bool = True
    adapter: bool = False
    turns: bool = True


@dataclass(frozen=True)
class NoSettings:
    """The settings of a method without options."""


class Configured:
    """Base of everything that is made from a settings dataclass; `@method` sets `Settings`."""

    Settings: ClassVar[type] = NoSettings

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings if settings is not None else type(self).Settings()


_methods: dict[tuple[str, str], Method] = {}


def method(
    kind: Kind,
    name: str,
    settings: type,
    *,
    paper: str | None = None,
    needs: set[str] | frozenset[str] = frozenset(),
    wants: set[str] | frozenset[str] = frozenset(),
    recipes: Mapping[str, str] | None = None,
    recommended: Mapping[str, Any] | None = None,
    tiny: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    seeded: bool = True,
    adapter: bool = False,
    turns: bool = True,
) -> Callable[[Class], Class]:
    """Class decorator that registers a method; the arguments are the fields of `Method`.

    Args:
        settings: the frozen dataclass of options; it becomes the class attribute `Settings`.
        tiny: one option set or several; the defaults alone if it is left out.

    Raises:
        InputError: another file has registered the name, or a named recipe of that name.
    """

    def add(cls: Class) -> Class:
        if (kind, name) in _methods and _methods[kind, name].factory.__module__ != cls.__module__:
            raise InputError(f"{kind} {name!r} is registered twice", "rename one of them")
        for other in _methods.values():
            for shared in set(recipes or ()) & set(other.recipes):
                if other.factory.__module__ != cls.__module__:
                    raise InputError(f"the recipe {shared!r} is registered twice", "rename one of them")
        summary = (import_module(cls.__module__).__doc__ or "").strip().split("\n")[0]
        _methods[kind, name] = Method(
            name,
            kind,
            summary,
            paper,
            frozenset(needs),
            frozenset(wants),
            cls,
            settings,
            dict(recipes or {}),
            dict(recommended or {}),
            (tiny,) if isinstance(tiny, Mapping) else tuple(tiny) or ({},),
            seeded,
            adapter,
            turns,
        )
        cls.Settings = settings  # type: ignore[attr-defined]  # a base class may declare it
        return cls

    return add


@lru_cache(maxsize=1)
def _load() -> None:
    for room in ROOMS:
        package = import_module(room)
        for module in iter_modules(package.__path__):
            import_module(f"{room}.{module.name}")
    for point in entry_points(group="letheon.methods"):
        point.load()


def methods(kind: Kind | None = None) -> list[Method]:
    """All records, or the records of one kind, sorted by kind and name."""
    _load()
    order = list(get_args(Kind))
    chosen = [record for record in _methods.values() if kind in (None, record.kind)]
    return sorted(chosen, key=lambda record: (order.index(record.kind), record.name))


def named_recipes() -> dict[str, Method]:
    """The named recipes, each with the method that declares it in `recipes`."""
    return {name: record for record in methods() for name in record.recipes}


def find(kind: Kind, name: str) -> Method:
    """The record of a name.

    Raises:
        InputError: no method of that kind has the name; the message offers the nearest one.
    """
    _load()
    if (kind, name) in _methods:
        return _methods[kind, name]
    elsewhere = [record.kind for record in methods() if record.name == name]
    if elsewhere:
        raise InputError(
            f"{name!r} is of the kind {elsewhere[0]}, not {kind}", "see `letheon methods` for how parts compose"
        )
    raise InputError(f"no {kind} is called {name!r}", nearest(name, [record.name for record in methods(kind)]))


def make_settings(record: Method, options: dict[str, Any]) -> Any:
    """Build the method's settings from options by name; texts are converted to the field's type.

    Raises:
        InputError: an unknown option, or a value that does not fit.
    """
    hints = get_type_hints(record.settings)
    fields = {option.name for option in dataclasses.fields(record.settings)}
    converted = {}
    for name, value in options.items():
        if name not in fields:
            raise InputError(f"{record.name} has no option {name!r}", nearest(name, sorted(fields)) or "it has none")
        what = f"option {name!r} of {record.name}"
        converted[name] = convert(value, hints[name], what) if isinstance(value, str) else value
    return record.settings(**converted)


def check_settings(
    settings: Any, positive: Sequence[str] = (), not_negative: Sequence[str] = (), shares: Sequence[str] = ()
) -> None:
    """Refuse a value outside its field's `Literal` choices or its bounds; for `__post_init__`.

    Args:
        positive, not_negative: fields with a finite value above 0, and of at least 0.
        shares: fields with a value from 0 to 1.
    """
    hints = get_type_hints(type(settings))
    for option in dataclasses.fields(settings):
        name, value, hint = option.name, getattr(settings, option.name), hints[option.name]
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise InputError(f"{name}: found {value!r}", "one of " + ", ".join(map(str, get_args(hint))))
        if name in positive and not 0 < value < float("inf"):
            raise InputError(f"{name}: found {value}", "give a finite value above 0")
        if name in not_negative and not 0 <= value < float("inf"):
            raise InputError(f"{name}: found {value}", "use 0 or more")
        if name in shares and not 0 <= value <= 1:
            raise InputError(f"{name}: found {value}", "it is a share: give 0 to 1")


class Checked:
    """Base of settings dataclasses that are checked as they are made, by the bounds that the class declares.

    class Settings(Checked, positive=("rate",), not_negative=("noise",), shares=("decay",)): ...
    """

    _bounds: ClassVar[dict[str, Sequence[str]]] = {}

    def __init_subclass__(cls, **bounds: Sequence[str]) -> None:
        cls._bounds = {name: (*cls._bounds.get(name, ()), *bounds.get(name, ())) for name in {**cls._bounds, **bounds}}

    def __post_init__(self) -> None:
        """Refuse values outside their bounds, see `check_settings`."""
        check_settings(self, **self._bounds)


def convert(text: str, hint: Any, what: str) -> Any:
    """Convert `text` to the type `hint` (int, float, bool, str, a Literal, or a union of one of these with None).

    Raises:
        InputError: the text does not fit; the message begins with `what`.
    """
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise InputError(f"{what}: found {text!r}", "one of " + ", ".join(map(str, get_args(hint))))
        return text
    if get_origin(hint) in (Union, types.UnionType):
        if text.lower() == "none" and type(None) in get_args(hint):
            return None
        return convert(text, next(kind for kind in get_args(hint) if kind is not type(None)), what)
    try:
        if hint is bool:
            return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[text.lower()]
        return hint(text)
    except (ValueError, KeyError, TypeError):
        name = getattr(hint, "__name__", str(hint))
        raise InputError(f"{what}: found {text!r}", f"give a value of type {name}") from None
