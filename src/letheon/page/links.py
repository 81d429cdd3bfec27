"""Addresses of the pages: those of the running site, and relative ones for static files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from letheon.core.errors import InputError


@dataclass(frozen=True)
class Links:
    """Addresses as a page writes them.

    Attributes:
        root: what stands before every address.
        suffix: what follows the address of a page.
    """

    root: str = "/"
    suffix: str = ""

    def home(self) -> str:
        """The list of papers."""
        return f"{self.root}index.html" if self.suffix else self.root

    def page(self, name: str) -> str:
        """A page by its name, such as `map` or `papers/gu`."""
        return f"{self.root}{name}{self.suffix}"

    def feed(self, kind: str) -> str:
        """The feed of a kind, `atom` or `json`."""
        return f"{self.root}feed.{kind}"

    def static(self, name: str) -> str:
        """A file of `static/`."""
        return f"{self.root}static/{name}"


LIVE = Links()


def static_links(depth: int) -> Links:
    """The addresses in a static file that lies `depth` folders below the site's root."""
    return Links("../" * depth, ".html")


def check_site(address: str, option: str) -> str:
    """Return the address of a site without a slash at its end.

    Raises:
        InputError: it is none; the message names the option.
    """
    plain = address.isascii() and address.isprintable() and not any(sign in address for sign in " <>\"'?#@\\")
    if not re.match(r"https?://[^/]", address) or not plain:
        raise InputError(
            f"{option} {address!r} is no address", "write https://papers.example.org or http://127.0.0.1:8457"
        )
    return address.rstrip("/")
