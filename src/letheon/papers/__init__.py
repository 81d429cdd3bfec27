"""The catalogue of papers: one file per paper that measures its claim, and a kit for such files.

`catalogue.toml` holds the citations and claims; a file is imported when its claim is run, so that listing papers costs
nothing. `letheon.papers()` is the list. Imports every room below the command line.
"""

from letheon.core.rooms import make_callable

make_callable("letheon.papers", "catalogue", "papers")
