"""Old place of `letheon.papers.kit.figures`, until every reproduction imports it from there."""

from letheon.papers.kit.figures import lines

__all__ = ["lines"]
