"""The register of methods: frozen records, made by a decorator in the method's own file, or by an entry point.

A third-party package adds methods by naming a module in the entry-point group `letheon.methods`; importing the module
runs its decorators. Nothing else has to be touched.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from letheon.core.errors import InputError, nearest

Kind = Literal["objective", "update", "scope", "sampler", "edit", "procedure", "strategy"]
ROOMS = (
    "letheon.forget.objectives",
    "letheon.forget.updates",
    "letheon.forget.scopes",
    "letheon.forget.samplers",
    "letheon.forget.edits",
    "letheon.forget.procedures",
    "letheon.retain.strategies",
)
Class = TypeVar("Class", bound=type)


@dataclass(frozen=True)
class Method:
    """What there is to know of a method without running it.

    Attributes:
        name: how it is written on the command line.
        kind: which part of a recipe it is; `edit` and `procedure` stand alone; a `strategy` learns a stream of tasks.
        summary: the first sentence of its file.
        paper: arXiv id or citation; None for what belongs to no paper.
        needs: what it needs beside forget rows: `retain`, `reference`, `alternates`, `subject`.
        wants: what it uses where it is given.
        factory: called with the settings.
        settings: the frozen dataclass of its options.
    """

    name: str
    kind: Kind
    summary: str
    paper: str | None
    needs: frozenset[str]
    wants: frozenset[str]
    factory: Callable[..., Any]
    settings: type


_methods: dict[tuple[str, str], Method] = {}


def method(
    kind: Kind,
    name: str,
    settings: type,
    *,
    paper: str | None = None,
    needs: set[str] | frozenset[str] = frozenset(),
    wants: set[str] | frozenset[str] = frozenset(),
) -> Callable[[Class], Class]:
    """Class decorator: put the class into the register.

    Args:
        settings: the frozen dataclass of options; the class is called with one, and finds it as `Settings`.
    """

    def add(cls: Class) -> Class:
        if (kind, name) in _methods and _methods[kind, name].factory.__module__ != cls.__module__:
            raise InputError(f"{kind} {name!r} is registered twice", "rename one of them")
        summary = (import_module(cls.__module__).__doc__ or "").strip().split("\n")[0]
        _methods[kind, name] = Method(name, kind, summary, paper, frozenset(needs), frozenset(wants), cls, settings)
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
    """All records, or those of one kind, by kind and name."""
    _load()
    order = list(get_args(Kind))
    found = [record for record in _methods.values() if kind in (None, record.kind)]
    return sorted(found, key=lambda record: (order.index(record.kind), record.name))


def find(kind: Kind, name: str) -> Method:
    """The record of a name; an unknown name is an `InputError` with the nearest one."""
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
    """The method's settings from options; texts are converted to the field's type, unknown names refused."""
    hints = get_type_hints(record.settings)
    fields = {field.name for field in dataclasses.fields(record.settings)}
    converted = {}
    for name, value in options.items():
        if name not in fields:
            raise InputError(f"{record.name} has no option {name!r}", nearest(name, sorted(fields)) or "it has none")
        converted[name] = convert(value, hints[name], f"option {name!r} of {record.name}") if _is_text(value) else value
    return record.settings(**converted)


def check_settings(settings: Any, positive: tuple[str, ...] = ()) -> None:
    """Refuse a value that is none of its field's choices, or not above zero where it must be; for `__post_init__`."""
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise InputError(f"{field.name}: found {value!r}", "one of " + ", ".join(map(str, get_args(hint))))
        if field.name in positive and not 0 < value < float("inf"):
            raise InputError(f"{field.name}: found {value}", "give a finite value above 0")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def convert(text: str, hint: Any, what: str) -> Any:
    """`text` as the type `hint` says (int, float, bool, str, a Literal, or one of these or None)."""
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
