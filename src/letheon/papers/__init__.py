"""The catalogue of 57 papers: one file a paper, each with its citation, its claim and what it gives a user.

A paper's file holds one `PAPER`. Its `reproduce` imports torch inside the function, so that listing papers
costs nothing. `letheon.papers()` is the list.
"""

from letheon.core.rooms import make_callable

make_callable("letheon.papers", "catalogue", "papers")
