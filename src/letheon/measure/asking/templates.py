"""Prompt templates: a text with slots, a version, and a hash that a result is published with."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from letheon.core.errors import InputError

SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Template:
    """A prompt with slots such as `{word}`.

    Attributes:
        name: the template's name.
        version: changes with every change of the text.
        text: the prompt; every slot is replaced by the field of its name.
    """

    name: str
    version: str
    text: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the text, before the slots are filled."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def fill(self, **fields: object) -> str:
        """Return the prompt with its slots filled; braces without a name between them stay.

        Raises:
            InputError: a slot has no field.
        """
        missing = sorted(set(SLOT.findall(self.text)) - set(fields))
        if missing:
            raise InputError(
                f"the prompt {self.name} {self.version} has a slot {{{missing[0]}}}, and there is no such field",
                f"fields: {', '.join(fields)}",
            )
        return SLOT.sub(lambda slot: str(fields[slot.group(1)]), self.text)

    def facts(self) -> dict[str, str]:
        """Return name, version, hash and text, for a result's configuration."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256, "text": self.text}
