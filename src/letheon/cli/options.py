"""Command-line options built from dataclasses: a field becomes an option, its `Attributes:` line the help text.

A command names two kinds of such parameters by their annotations, and `expanded` spreads them into single options:

    @expanded
    def forget(rows: Annotated[RequestFiles, Group("The rows")],
               training: Annotated[dict[str, Any], Given(ForgetSettings, TrainSettings, panel="The training")]) -> None:

`rows` arrives as a `RequestFiles`. `training` arrives as a dictionary of the options that the user gave, so that the
command can tell a given value from a default. A field added to one of these classes is an option without further work.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from rich.markup import escape

SHORT = {"learning_rate": "--lr"}
NONE = "none"
IS_NONE = object()  # the user gave None, which differs from giving nothing


@dataclass(frozen=True)
class Group:
    """A parameter whose annotation is a dataclass: every field is an option, and the command gets an instance.

    Attributes:
        panel: heading of the options in the help.
    """

    panel: str

    def parameters(self, kind: type) -> list[inspect.Parameter]:
        """Return one parameter per field; a field's metadata holds further arguments of `typer.Option`."""
        return [
            _parameter(item.name, Annotated[hint, _option(item, item.name, words, self.panel)], _default(item))
            for item, hint, words in _fields(kind)
        ]

    def value(self, kind: type, given: Mapping[str, Any]) -> Any:
        """Build the instance from the options' values."""
        return kind(**given)


class Given:
    """A dictionary parameter: the fields of settings classes are options, and the command gets those that were given.

    Args:
        kinds: the settings classes.
        panel: heading of the options in the help.
        without: names of fields that make no option.
        prefix: beginning of every option's name, such as `train_`.
        before_default: words before a default that something else may replace, such as `the method's, else `.
    """

    def __init__(
        self, *kinds: type, panel: str, without: Iterable[str] = (), prefix: str = "", before_default: str = ""
    ) -> None:
        self.kinds, self.panel, self.without = kinds, panel, frozenset(without)
        self.prefix, self.before_default = prefix, before_default

    def parameters(self, _: Any = None) -> list[inspect.Parameter]:
        """Return one parameter per field, with None, which means "not given", as its default."""
        fields = (field for kind in self.kinds for field in _fields(kind) if field[0].name not in self.without)
        return [self._parameter(*field) for field in fields]

    def _parameter(self, item: Field[Any], hint: Any, words: str) -> inspect.Parameter:
        name = self.prefix + item.name
        words = f"{words or _sentence(item.name.replace('_', ' '))}{_default_words(item, self.before_default)}"
        info = _option(item, name, words, self.panel)
        if (inner := _without_none(hint)) is not hint:
            info.parser = functools.partial(_read_or_none, inner)
            info.metavar = f"{getattr(inner, '__name__', 'value')}|{NONE}"
            hint = str
        elif get_origin(hint) is tuple:
            hint = list[get_args(hint)[0]]  # type: ignore[misc]
        return _parameter(name, Annotated[hint | None, info], None)

    def value(self, _: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that were given, by the names of their fields."""
        taken: dict[str, Any] = {}
        for name, value in given.items():
            if value is not None and value != []:
                value = tuple(value) if isinstance(value, list) else value
                taken[name.removeprefix(self.prefix)] = None if value is IS_NONE else value
        return taken


def expanded(function: Callable[..., None]) -> Callable[..., None]:
    """Spread a command's `Group` and `Given` parameters into single options, which typer reads from the signature.

    Raises:
        TypeError: two groups have an option of the same name.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Group | Given, Any, list[str]]] = {}
    for name, written in inspect.signature(function).parameters.items():
        kind, *notes = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        marker = next((note for note in notes if isinstance(note, Group | Given)), None)
        if marker is None:
            parameters.append(_parameter(name, hints[name], written.default))
            continue
        made = marker.parameters(kind)
        groups[name] = marker, kind, [parameter.name for parameter in made]
        parameters += made

    @functools.wraps(function)
    def command(**values: Any) -> None:
        built = {
            name: marker.value(kind, {option: values.pop(option) for option in names})
            for name, (marker, kind, names) in groups.items()
        }
        function(**values, **built)

    names = [parameter.name for parameter in parameters]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{function.__name__} has options of the same name: {', '.join(sorted(twice))}")
    del command.__wrapped__  # typer would read it instead of the signature
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _fields(kind: type) -> list[tuple[Field[Any], Any, str]]:
    """Return each field of a dataclass with its type and its line of the docstring."""
    hints, words = get_type_hints(kind), attribute_docs(kind)
    return [(item, hints[item.name], words.get(item.name, "")) for item in dataclasses.fields(kind)]


def attribute_docs(kind: type) -> dict[str, str]:
    """Read the `Attributes:` sections of a class and its bases: a sentence per field.

    >>> class Example:
    ...     '''An example.
    ...
    ...     Attributes:
    ...         steps, epochs: how long
    ...             training lasts.
    ...     '''
    >>> attribute_docs(Example)
    {'steps': 'How long training lasts.', 'epochs': 'How long training lasts.'}
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        _, _, section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        section = re.split(r"^\S", section, maxsplit=1, flags=re.MULTILINE)[0]
        for names, words in re.findall(r"^ {4}([\w, ]+): (.*(?:\n {8,}.*)*)", section, flags=re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), _sentence(words))
    return found


def _sentence(words: str) -> str:
    text = " ".join(words.split())
    return text[:1].upper() + text[1:].removesuffix(".") + "."


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default(item: Field[Any]) -> Any:
    """Return a field's default; a field without one makes a required option."""
    if item.default_factory is not MISSING:
        return item.default_factory()
    return inspect.Parameter.empty if item.default is MISSING else item.default


def _default_words(item: Field[Any], before_default: str = "") -> str:
    """Tell a field's default, spelled as the user would give it."""
    default = _default(item)
    if default is inspect.Parameter.empty or default == ():
        return ""
    if isinstance(default, bool):
        return f" Default: {before_default}on." if default else f" Default: {before_default}off."
    return f" Default: {before_default}{NONE if default is None else default}."


def _option(item: Field[Any], name: str, words: str, panel: str) -> Any:
    """Return typer's description of an option, spelled as the field's metadata say, or after its name."""
    further = dict(item.metadata)
    spellings = further.pop("spellings", ())
    if not spellings and name in SHORT:
        spellings = ("--" + name.replace("_", "-"), SHORT[name])
    return typer.Option(*spellings, **{"help": escape(words), "rich_help_panel": panel, **further})


def _without_none(hint: Any) -> Any:
    """Return the type X of a hint `X | None`, and every other hint itself."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0] if len(kinds) == 1 else hint


def _read_or_none(kind: Any, text: str) -> Any:
    """Read a value of a setting that may be None, which is spelled `none`."""
    if text.strip().lower() == NONE:
        return IS_NONE
    if get_origin(kind) is not Literal:
        return kind(text)
    if text not in get_args(kind):
        raise ValueError(f"{text!r} is not one of {', '.join(map(str, get_args(kind)))}")
    return text
