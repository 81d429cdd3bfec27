"""Addresses of the pages: those of the running site, and relative ones for static files."""

from __future__ import annotations

from dataclasses import dataclass


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

    def static(self, name: str) -> str:
        """A file of `static/`."""
        return f"{self.root}static/{name}"


LIVE = Links()


def static_links(depth: int) -> Links:
    """The addresses in a static file that lies `depth` folders below the site's root."""
    return Links("../" * depth, ".html")
