"""The catalogue of 57 papers: one file a paper, each with its citation, its claim and what it gives a user.

`catalogue.toml` holds the citations and claims; a file is imported when its claim is run, so that listing papers costs
nothing. `letheon.papers()` is the list. Imports every room below the command line.
"""

from letheon.core.rooms import make_callable

make_callable("letheon.papers", "catalogue", "papers")
