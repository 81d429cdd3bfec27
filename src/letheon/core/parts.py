"""Parts of a composed method as users write them: `NAME[=VALUE][:OPTION=VALUE,...]`.

The bare value goes to the part's first option (`layers=5-7`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from letheon.core.errors import InputError
from letheon.core.registry import Kind, Method, find, make_settings


@dataclass(frozen=True)
class Part:
    """A method's record with its options."""

    method: Method
    settings: Any

    def make(self) -> Any:
        """Make a new object with these settings."""
        return self.method.factory(self.settings)

    def __str__(self) -> str:
        default = self.method.settings()
        changed = [
            f"{f.name}={getattr(self.settings, f.name)}"
            for f in dataclasses.fields(self.settings)
            if getattr(self.settings, f.name) != getattr(default, f.name)
        ]
        return f"{self.method.name}:{','.join(changed)}" if changed else self.method.name


def name_of(text: str) -> str:
    """The name that a part's text begins with."""
    return text.partition(":")[0].partition("=")[0].strip()


def read_part(kind: Kind, text: str) -> Part:
    """Read a part from its text.

    Raises:
        InputError: an unknown name, an unknown option, or a value that does not fit.
    """
    head, _, tail = text.partition(":")
    name, _, value = head.partition("=")
    name = name.strip()
    record = find(kind, name)
    options: dict[str, Any] = {}
    if value:
        fields = dataclasses.fields(record.settings)
        if not fields:
            raise InputError(f"{name} takes no value, found {value!r}", f"write {name} alone")
        options[fields[0].name] = value
    for item in filter(None, tail.split(",")):
        option, equals, content = item.partition("=")
        if not equals:
            raise InputError(f"{name}: option {item!r} has no value", "write OPTION=VALUE, separated by commas")
        options[option.strip()] = content.strip()
    return Part(record, make_settings(record, options))
